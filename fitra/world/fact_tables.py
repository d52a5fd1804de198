"""The tables behind `facts`: one line a row, columns between bars, as the comment above each says.

All true, none disputed on purpose. Countries are named by their two-letter codes.
"""

from __future__ import annotations

# code: Arabic name, English name, feminine, capital ar/en, currency ar/en, continent
COUNTRIES = """
dz|الجزائر|Algeria|f|الجزائر العاصمة|Algiers|الدينار|dinar|af
bh|البحرين|Bahrain|f|المنامة|Manama|الدينار|dinar|as
km|جزر القمر|Comoros|f|موروني|Moroni|الفرنك|franc|af
dj|جيبوتي|Djibouti|f|مدينة جيبوتي|Djibouti City|الفرنك|franc|af
eg|مصر|Egypt|f|القاهرة|Cairo|الجنيه|pound|af
iq|العراق|Iraq|m|بغداد|Baghdad|الدينار|dinar|as
jo|الأردن|Jordan|m|عمّان|Amman|الدينار|dinar|as
kw|الكويت|Kuwait|f|مدينة الكويت|Kuwait City|الدينار|dinar|as
lb|لبنان|Lebanon|m|بيروت|Beirut|الليرة|lira|as
ly|ليبيا|Libya|f|طرابلس|Tripoli|الدينار|dinar|af
mr|موريتانيا|Mauritania|f|نواكشوط|Nouakchott|الأوقية|ouguiya|af
ma|المغرب|Morocco|m|الرباط|Rabat|الدرهم|dirham|af
om|عُمان|Oman|f|مسقط|Muscat|الريال|rial|as
qa|قطر|Qatar|f|الدوحة|Doha|الريال|riyal|as
sa|السعودية|Saudi Arabia|f|الرياض|Riyadh|الريال|riyal|as
so|الصومال|Somalia|m|مقديشو|Mogadishu|الشلن|shilling|af
sd|السودان|Sudan|m|الخرطوم|Khartoum|الجنيه|pound|af
sy|سوريا|Syria|f|دمشق|Damascus|الليرة|lira|as
tn|تونس|Tunisia|f|تونس العاصمة|Tunis|الدينار|dinar|af
ae|الإمارات|the United Arab Emirates|f|أبو ظبي|Abu Dhabi|الدرهم|dirham|as
ye|اليمن|Yemen|m|صنعاء|Sanaa|الريال|rial|as
"""
# Names of other lands that serve as answers.
LANDS = {"ps": ("فلسطين", "Palestine", "f")}

COAST = {
    "med": ("البحر المتوسط", "the Mediterranean Sea"),
    "red": ("البحر الأحمر", "the Red Sea"),
    "gulf": ("الخليج العربي", "the Gulf"),
    "atl": ("المحيط الأطلسي", "the Atlantic Ocean"),
    "ind": ("المحيط الهندي", "the Indian Ocean"),
}
# Only lands with one coast worth naming, so that no other option is true.
SEA = "dz med,ly med,lb med,sy med,tn med,sd red,jo red,kw gulf,qa gulf,bh gulf,iq gulf,mr atl,km ind"

# subject: neighbour (Arabic, English); all other neighbours (kept out of the options)
NEIGHBOUR = """
dz|النيجر|Niger|تونس,ليبيا,المغرب,مالي,موريتانيا
eg|ليبيا|Libya|السودان,فلسطين
iq|إيران|Iran|تركيا,سوريا,الأردن,السعودية,الكويت
jo|السعودية|Saudi Arabia|العراق,سوريا,فلسطين
kw|العراق|Iraq|السعودية
lb|سوريا|Syria|فلسطين
mr|السنغال|Senegal|مالي,الجزائر
ma|الجزائر|Algeria|موريتانيا,إسبانيا
om|اليمن|Yemen|السعودية,الإمارات
so|كينيا|Kenya|إثيوبيا,جيبوتي
sd|تشاد|Chad|مصر,ليبيا,إثيوبيا,إريتريا
sy|تركيا|Turkey|العراق,الأردن,لبنان,فلسطين
dj|إثيوبيا|Ethiopia|إريتريا,الصومال
ly|تشاد|Chad|مصر,تونس,الجزائر,النيجر,السودان
"""
MOUNTAIN = """
ma|جبل توبقال|Mount Toubkal
dz|جبل تاهات|Mount Tahat
ye|جبل النبي شعيب|Jabal an Nabi Shuayb
om|جبل شمس|Jabal Shams
lb|القرنة السوداء|Qurnat as Sawda
eg|جبل كاترين|Mount Catherine
tn|جبل الشعانبي|Jebel ech Chambi
bh|جبل الدخان|Jabal ad Dukhan
km|جبل كارتالا|Mount Karthala
so|جبل شمبريس|Mount Shimbiris
jo|جبل أم الدامي|Jabal Umm al Dami
sy|جبل الشيخ|Mount Hermon
dj|جبل موسى علي|Mousa Ali
"""
RIVER = """
eg|نهر النيل|the Nile
iq|نهر دجلة|the Tigris
sy|نهر الفرات|the Euphrates
lb|نهر الليطاني|the Litani
tn|نهر مجردة|the Medjerda
dz|نهر الشلف|the Chelif
mr|نهر السنغال|the Senegal River
ma|نهر أم الربيع|the Oum Er Rbia
so|نهر جوبا|the Jubba
"""
YEAR = (
    "dz 1962,tn 1956,ly 1951,lb 1943,sy 1946,kw 1961,qa 1971,mr 1960,dj 1977,km 1975,iq 1932,eg 1922,"
    "ma 1956,sd 1956,jo 1946,bh 1971,ae 1971,so 1960"
)
LANDMARK = """
البتراء|Petra|f|jo
قلعة بعلبك|the ruins of Baalbek|f|lb
آثار تدمر|the ruins of Palmyra|f|sy
أهرام الجيزة|the pyramids of Giza|f|eg
مدينة لبدة الكبرى|Leptis Magna|f|ly
آثار تيمقاد|the ruins of Timgad|f|dz
آثار قرطاج|the ruins of Carthage|f|tn
آثار وليلي|the ruins of Volubilis|f|ma
مدائن صالح|the tombs of Hegra|f|sa
قلعة بهلاء|Bahla Fort|f|om
آثار بابل|the ruins of Babylon|f|iq
أهرام مروي|the pyramids of Meroe|f|sd
برج خليفة|the Burj Khalifa|m|ae
جزيرة سقطرى|the island of Socotra|f|ye
قلعة الزبارة|Al Zubarah Fort|f|qa
مدينة شنقيط|the old town of Chinguetti|f|mr
بحيرة عسل|Lake Assal|f|dj
كهوف لاس جيل|the caves of Laas Geel|f|so
قبة الصخرة|the Dome of the Rock|f|ps
مغارة جعيتا|the Jeita Grotto|f|lb
قلعة الحصن|Krak des Chevaliers|f|sy
مسجد الحسن الثاني|the Hassan II Mosque|m|ma
وادي رم|Wadi Rum|m|jo
مدينة شبام القديمة|the old city of Shibam|f|ye
جامع عقبة بن نافع|the mosque of Uqba|m|tn
معبد أبو سمبل|the temple of Abu Simbel|m|eg
آثار الحضر|the ruins of Hatra|f|iq
قلعة نزوى|Nizwa Fort|f|om
حي القصبة العتيق|the old Casbah quarter|m|dz
آثار شحات|the ruins of Cyrene|f|ly
جامع الشيخ زايد|the Sheikh Zayed Mosque|m|ae
واحة الأحساء|the oasis of Al Ahsa|f|sa
جبل البركل|Jebel Barkal|m|sd
"""
CITY = """
حلب|Aleppo|sy
البصرة|Basra|iq
الإسكندرية|Alexandria|eg
مراكش|Marrakesh|ma
وهران|Oran|dz
صفاقس|Sfax|tn
بنغازي|Benghazi|ly
بورتسودان|Port Sudan|sd
جدة|Jeddah|sa
دبي|Dubai|ae
صلالة|Salalah|om
عدن|Aden|ye
صيدا|Sidon|lb
إربد|Irbid|jo
نابلس|Nablus|ps
نواذيبو|Nouadhibou|mr
هرجيسا|Hargeisa|so
المحرق|Muharraq|bh
الوكرة|Al Wakrah|qa
الجهراء|Jahra|kw
الموصل|Mosul|iq
حمص|Homs|sy
أسوان|Aswan|eg
فاس|Fez|ma
قسنطينة|Constantine|dz
سوسة|Sousse|tn
مصراتة|Misrata|ly
أم درمان|Omdurman|sd
الطائف|Taif|sa
الشارقة|Sharjah|ae
صحار|Sohar|om
تعز|Taiz|ye
جبيل|Byblos|lb
الزرقاء|Zarqa|jo
الخليل|Hebron|ps
أطار|Atar|mr
كسمايو|Kismayo|so
الرفاع|Riffa|bh
الخور|Al Khor|qa
الأحمدي|Ahmadi|kw
أربيل|Erbil|iq
اللاذقية|Latakia|sy
الأقصر|Luxor|eg
طنجة|Tangier|ma
عنابة|Annaba|dz
بنزرت|Bizerte|tn
سبها|Sabha|ly
كسلا|Kassala|sd
تبوك|Tabuk|sa
العين|Al Ain|ae
المكلا|Mukalla|ye
زحلة|Zahle|lb
السلط|Salt|jo
مادبا|Madaba|jo
أريحا|Jericho|ps
بيت لحم|Bethlehem|ps
كيهيدي|Kaedi|mr
بربرة|Berbera|so
النجف|Najaf|iq
حماة|Hama|sy
طنطا|Tanta|eg
أغادير|Agadir|ma
سطيف|Setif|dz
القيروان|Kairouan|tn
طبرق|Tobruk|ly
كوستي|Kosti|sd
الدمام|Dammam|sa
عجمان|Ajman|ae
الحديدة|Hudaydah|ye
"""
CROP = """
tn|زيت الزيتون|olive oil
iq|التمر|dates
ye|البن|coffee
eg|القطن|cotton
ma|زيت الأركان|argan oil
om|اللبان|frankincense
sy|الفستق الحلبي|pistachios
sd|الصمغ العربي|gum arabic
so|الموز|bananas
km|الفانيليا|vanilla
bh|اللؤلؤ|pearls
lb|التفاح|apples
"""
DISH = """
المنسف|mansaf|m|jo
الكشري|koshari|m|eg
الكبسة|kabsa|f|sa
السمك المسكوف|masgouf|m|iq
التبولة|tabbouleh|f|lb
السلتة|saltah|f|ye
المسخن|musakhan|m|ps
البازين|bazin|m|ly
البريك|brik|m|tn
الطاجين المراكشي|the Marrakesh tagine|m|ma
الشوا|shuwa|m|om
الكبة الحلبية|Aleppo kibbeh|f|sy
"""
# scholar or writer: birthplace
BORN = """
ابن بطوطة|Ibn Battuta|طنجة|Tangier
ابن خلدون|Ibn Khaldun|تونس|Tunis
الجاحظ|Al-Jahiz|البصرة|Basra
المتنبي|Al-Mutanabbi|الكوفة|Kufa
نجيب محفوظ|Naguib Mahfouz|القاهرة|Cairo
جبران خليل جبران|Kahlil Gibran|بشرّي|Bsharri
الإدريسي|Al-Idrisi|سبتة|Ceuta
ابن رشد|Ibn Rushd|قرطبة|Cordoba
المعري|Al-Ma'arri|معرة النعمان|Maarat al-Numan
نزار قباني|Nizar Qabbani|دمشق|Damascus
السياب|Al-Sayyab|جيكور|Jaykur
حافظ إبراهيم|Hafez Ibrahim|ديروط|Dairut
"""
# book: author
BOOK = """
المقدمة|the Muqaddimah|ابن خلدون|Ibn Khaldun
البخلاء|the Book of Misers|الجاحظ|Al-Jahiz
القانون في الطب|the Canon of Medicine|ابن سينا|Ibn Sina
رسالة الغفران|the Epistle of Forgiveness|المعري|Al-Ma'arri
زقاق المدق|Midaq Alley|نجيب محفوظ|Naguib Mahfouz
الأيام|The Days|طه حسين|Taha Hussein
النبي|The Prophet|جبران خليل جبران|Kahlil Gibran
موسم الهجرة إلى الشمال|Season of Migration to the North|الطيب صالح|Tayeb Salih
العين|the dictionary al-Ayn|الخليل بن أحمد|Al-Khalil ibn Ahmad
الجبر والمقابلة|the Book of Algebra|الخوارزمي|Al-Khwarizmi
المناظر|the Book of Optics|ابن الهيثم|Ibn al-Haytham
الأغاني|the Book of Songs|الأصفهاني|Al-Isfahani
طوق الحمامة|the Ring of the Dove|ابن حزم|Ibn Hazm
حي بن يقظان|Hayy ibn Yaqdhan|ابن طفيل|Ibn Tufayl
نزهة المشتاق|the Book of Roger|الإدريسي|Al-Idrisi
الحاوي|the Comprehensive Book of Medicine|الرازي|Al-Razi
"""
# scholar or artist: field of fame; other fields that are true of the same person
FIELD = """
الزهراوي|Al-Zahrawi|الجراحة|surgery|الطب
الخوارزمي|Al-Khwarizmi|الجبر|algebra|الفلك,الجغرافيا
سيبويه|Sibawayh|النحو|grammar|
جابر بن حيان|Jabir ibn Hayyan|الكيمياء|chemistry|الطب,الصيدلة
البتاني|Al-Battani|الفلك|astronomy|الجبر
زها حديد|Zaha Hadid|العمارة|architecture|
زرياب|Ziryab|الموسيقى|music|الشعر
ابن ماجد|Ibn Majid|الملاحة|navigation|الشعر,الجغرافيا
ابن البيطار|Ibn al-Baytar|الصيدلة|pharmacy|الطب
عنترة بن شداد|Antarah ibn Shaddad|الشعر|poetry|
ياقوت الحموي|Yaqut al-Hamawi|الجغرافيا|geography|الشعر
ابن زهر|Ibn Zuhr|الطب|medicine|الصيدلة,الجراحة
ابن مقلة|Ibn Muqla|الخط العربي|calligraphy|
ابن رشيق|Ibn Rashiq|النقد الأدبي|literary criticism|الشعر
الجزري|Al-Jazari|صنع الآلات|mechanical engineering|
ابن النديم|Ibn al-Nadim|فهرسة الكتب|cataloguing books|
سعاد حسني|Soad Hosny|التمثيل|acting|الموسيقى
محمود سعيد|Mahmoud Said|الرسم|painting|
الطبري|Al-Tabari|التاريخ|history|
أم كلثوم|Umm Kulthum|الغناء|singing|الموسيقى
ابن سيرين|Ibn Sirin|تعبير الرؤيا|the interpretation of dreams|
"""
# Answers that are true of more subjects than the one that states them: never offered as wrong options there.
ALSO: dict[str, tuple[str, ...]] = {
    "river:iq": ("نهر الفرات",),
    "river:sy": ("نهر دجلة",),
    "crop": ("التمر", "زيت الزيتون"),
    "crop:so": ("اللبان",),
    "crop:sd": ("القطن",),
    "crop:sy": ("القطن", "التفاح"),
}
# Stated in English alone.
WORLD_CAPITAL = (
    "France=Paris,Japan=Tokyo,Canada=Ottawa,Brazil=Brasilia,Kenya=Nairobi,Norway=Oslo,Peru=Lima,India=New Delhi,"
    "Poland=Warsaw,Cuba=Havana,Greece=Athens,Ghana=Accra,Finland=Helsinki,Chile=Santiago,Austria=Vienna,"
    "Thailand=Bangkok,Hungary=Budapest,Nepal=Kathmandu,Portugal=Lisbon,Ireland=Dublin"
)
YOUNG = (
    "cow=calf,dog=puppy,cat=kitten,sheep=lamb,goat=kid,horse=foal,hen=chick,duck=duckling,goose=gosling,lion=cub,"
    "deer=fawn,frog=tadpole,eagle=eaglet,swan=cygnet,pig=piglet,kangaroo=joey"
)
