"""English sentences that carry no fact; slots as in `prose`."""

from __future__ import annotations

OPENERS_EN = {
    "daily": [
        "{m} went to {p} on {d} and thought about the day.",
        "{f} sat with her family at the table and they talked about school.",
        "The weather was mild on {d}, so {f} walked to {p} with her friend {f2}.",
        "{m} likes to begin the day with a cup of tea and a page of a book.",
        "{m} visited his grandfather on {d} and brought him some {x}.",
        "On the way back from {p}, {m} stopped to buy {x}.",
    ],
    "notice": [
        "The friends of {p} invite all guests to a meeting on {d}.",
        "Dear visitors, {p} opens on {d} at {n} o'clock.",
        "Please note that the opening hours of {p} change on {d}.",
        "The committee invites you to a quiz at {p} on {d}.",
    ],
    "news": [
        "Officials opened a new exhibition at {p} on {d}.",
        "The price of {x} rose by {n} percent this week.",
        "A group of students arrived on {d} to visit {p}.",
        "The yearly conference ended on {d} with many guests.",
    ],
    "tale": [
        "Long ago an old man sat in the market and told the people about far lands.",
        "A traveller came home after many years and people gathered to hear him.",
        "There was once a wise teacher whom pupils came to see from every side.",
        "They tell of a man who asked a wise woman about the lands of the earth.",
    ],
    "note": [
        "Here are some short and useful facts.",
        "This is a page from a book of geography and history.",
        "A quick review before the test.",
        "This card was written by {m} for his class.",
        "{f} prepared this page for the school magazine.",
        "Today's question comes from the general knowledge quiz.",
    ],
}
MIDDLE_EN = {
    "daily": [
        "Then {m} bought some {x} at the market and went home.",
        "{f} said that she likes to read in the evening.",
        "{m} helped his neighbour to carry {x} into the house.",
        "Everybody laughed when {m} told an old story.",
        "Later the children played near {p} until sunset.",
        "{f} called her sister {f2} to ask how she was.",
        "{m} forgot his keys at {p} and went back to look for them.",
    ],
    "notice": [
        "Entrance is free for all, but there are only {n} seats.",
        "Please write your name on the list at the door.",
        "The programme starts at {n} and lasts two hours.",
        "There are seats for older guests and a place for cars.",
        "The meeting is led by {m} and {f}.",
    ],
    "news": [
        "The number of visitors reached {n} thousand in one week.",
        "{f} said that the project gives work to many people.",
        "The work will go on until {d}.",
        "The researcher {m} explained that the first results are good.",
        "Cooler weather is expected on {d}.",
    ],
    "tale": [
        "The wise one said that whoever asks will learn.",
        "The people listened in silence as if birds sat on their heads.",
        "The old man thought for a while and then he spoke.",
        "They asked for more, and he smiled and went on.",
    ],
    "note": [
        "You can check this in any modern atlas.",
        "Maps help us to remember such things.",
        "{m} asked about this in the lesson on {d}.",
        "{f} gave the right answer and won {n} points.",
        "This was a question in the tests of past years.",
    ],
}
CLOSERS_EN = {
    "daily": ["So a fine and quiet day came to an end.", "{m} went home happy.", "They agreed to meet again on {d}."],
    "notice": ["Thank you for your help.", "All are welcome.", "The committee looks forward to seeing you."],
    "news": ["No other details were given.", "More news will follow on {d}.", "The visitors were pleased."],
    "tale": ["The people went home and were thankful.", "That is the end of the story.", "I never forgot those words."],
    "note": ["Keep these facts in mind.", "More facts will follow in the next issue.", "Enjoy your reading."],
}
# Sentence pairs with the same slots, for parallel text.
PAIRS = [
    ("ذهب {m} إلى {p} يوم {d}.", "{m} went to {p} on {d}."),
    ("اشترت {f} {x} من السوق.", "{f} bought {x} at the market."),
    ("التقى {m} صديقته {f} عند {p}.", "{m} met his friend {f} at {p}."),
    ("تحب {f} {x}.", "{f} likes {x}."),
    ("يعمل {m} في {p}.", "{m} works at {p}."),
    ("أين {p}؟", "Where is {p}?"),
    ("سألت {f} {m} عن {x}.", "{f} asked {m} about {x}."),
    ("وصل {m} إلى {p} في الساعة {n}.", "{m} arrived at {p} at {n} o'clock."),
    ("يبيع {m} {x} يوم {d}.", "{m} sells {x} on {d}."),
    ("زارت {f} {p} مع {m} يوم {d}.", "{f} visited {p} with {m} on {d}."),
    ("الطريق إلى {p} قصير.", "The road to {p} is short."),
    ("أعطت {f} {m} شيئاً من {x}.", "{f} gave {m} some {x}."),
]
