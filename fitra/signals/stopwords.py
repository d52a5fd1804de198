"""Function words of Arabic (standard, classical and spoken) and English, and the phrases of web furniture.

Function words are what running text cannot do without and keyword lists, menus and tables have not. Arabic
writes some
of them onto their neighbours («وفيها», «فإنه»), so forms with the conjunctions و and ف and with pronoun endings count
as well. All is folded (`arabic.fold`, level search), so spelling habits («فى», «إلي») and tashkeel do not matter.
"""

from __future__ import annotations

import functools

from fitra import arabic

# Take و and ف before them.
_PARTICLES = """
من في على إلى عن مع حتى منذ خلال أن إن لأن بأن كأن فإن لو إذا إذ إذن لما كلما عندما حين حينما بينما حيث كيف كما
مثل مثلما لا ما لم لن ليس
ليست ليسوا لست غير سوى إلا أما إما ألا هل أو أم أي أية كل كلا كلتا بعض جميع كافة عامة ذات ذو ذوي نفس هو هي هم هن
هما أنا نحن أنت أنتم أنتما
هذا هذه هذان هذين هؤلاء ذلك تلك أولئك ذاك هناك هنا هنالك الذي التي الذين اللذان اللذين اللتان اللتين اللاتي
اللواتي اللائي كان كانت كانوا كنت كنا يكون
تكون يكونوا نكون أكون كن كنتم صار أصبح أصبحت يصبح ظل بات ما زال مازال لازال يزال قد لقد سوف لقد فقط أيضا جدا ثم
بل لكن لكنه لكنها قبل بعد تحت
فوق أمام خلف وراء دون بدون عند لدى نحو حول بين ضمن عبر ضد أثناء إثر بسبب لأجل وفق حسب رغم لعل ليت كم متى أين
لماذا ماذا مما عما فيما بما لما
كذلك هكذا لذلك لذا كي لكي حيثما أينما مهما إنما يا أيها ربما بعدما قبلما ثمة تم يتم عدة أحد إحدى سواء مهما منها
به له لها بها فيه عليه إليه كون مع
عام يوم قال قالت وقال يقول أكثر أقل أول الأول الآن اليوم أنه أنها ولا وما التى فى ى إياه إياك بلى نعم كلاهما
حاشا خلا عدا لدن طالما قلما ألم أفلا أولم
أليس أما لولا لوما كأنما حيثيات عسى بئس نعم ويل هيهات أف مه صه قط بعد غدا أمس هاهنا هنيهة تارة ذا ذي تلكم ذلكم
أولاء أيان أنى
"""
# Spoken Arabic: Egypt, Levant, Gulf, Iraq, Maghreb, Sudan.
_SPOKEN = """
ده دي دا دول اللي اللى مش مو مب موب مهوب ايه إيه ازاي إزاي كده كدة كدا عشان علشان بس لسه لسا احنا إحنا انتو
انتوا انتي إنتي همه هما هوه هيه بتاع بتاعت
بتاعه بتوع لما ليه فين امتى إمتى النهارده النهاردة دلوقتي دلوقت أهو اهي برضه برضو كمان زي زى عايز عاوز فيه مفيش
مافيش معاه معاها ليها ليهم ليك ليا
بيها بيهم شو هيك هاد هاي هادا هاذا هدا هيدا هيدي هادي كتير منيح ليش وين شلون لشو مشان منشان هلق هلأ هلا لهلق هون
هونيك عم رح راح بدي بدك بده
بدها بدنا عنا عندي شي حدا يلي الي إلي انو إنو إنه لانو كنو متل تبع تبعت هسه هسة اكو ماكو شنو شكو هواي خوش وش ايش
إيش كذا مره ذحين الحين
هالحين توني عاد ابغى ابي تبي يبي لين حق حقت معي معاي واجد وايد زين يوم عقب جان چان واش ديال ديالي هاد هادو بزاف
حنا راه راهي كيفاش علاش
فاش شكون ماشي غادي كاين كاينة باش برشا توا نتي نحنا زول شديد داير ولا يعني طب طيب اه ايوه ايوا لأ خلاص بقى بقا
ياريت والله لحد عن علي قد كل
"""
_PREPOSITIONS = """
من في على إلى عن مع ل ب عند لدى بين حول دون قبل بعد تحت فوق
أمام خلف نحو ضد أن إن لأن لكن كأن بأن كل بعض مثل غير نفس حين وراء لعل ليت عبر كان جميع
"""
_ENDINGS = ("ه", "ها", "هم", "هما", "هن", "ك", "كم", "ي", "نا")
_ENGLISH = """
the be is are was were been being am to of and in that have has had it its for not on with he she as you do does
did at this
but his her by from they them we us say or an a will would my one all there their what so up out if about who
which when
can could may might must shall should like no than then into your our me him some only over such these those
very too also
because while where why how any each both between after before under again more most other own same just here i s t
"""
# Web furniture: consent banners, navigation, rights, forms. Two words or more each: single words are innocent.
_FURNITURE = """
ملفات تعريف الارتباط | ملفات الارتباط | الكوكيز | نستخدم الكوكيز | سياسة الخصوصية | شروط الاستخدام | شروط الخدمة
الشروط والأحكام | سياسة الاستخدام | اتفاقية الاستخدام
جميع الحقوق محفوظة | حقوق النشر | الحقوق محفوظة | تسجيل الدخول | تسجيل الخروج | إنشاء حساب | حساب جديد
نسيت كلمة المرور | كلمة المرور | اسم المستخدم
البريد الإلكتروني | اشترك الآن | اشترك في النشرة | النشرة البريدية | القائمة البريدية | النشرة الإخبارية
اقرأ المزيد | اقرأ أيضا | المزيد من | عرض المزيد | شاهد أيضا | مواضيع ذات صلة
مقالات ذات صلة | أخبار ذات صلة | اتصل بنا | من نحن | الصفحة الرئيسية | خريطة الموقع | أعلن معنا | تابعنا على
شارك على | شارك هذا | مشاركة على | اضغط هنا
أضف تعليقا | أضف تعليق | اترك تعليقا | اترك تعليق | إلغاء الرد | الحقول الإلزامية | الأكثر قراءة | الأكثر مشاهدة
الأكثر مبيعا | أضف إلى السلة | أضف للسلة | سلة التسوق | سلة المشتريات
المملكة المتحدة الإنجليزية | قبول الكل | رفض الكل | أوافق على | إعدادات الخصوصية | تحسين تجربتك | تجربة المستخدم
تجربة تصفح | متصفحك لا يدعم | يرجى تفعيل | تفعيل جافا سكريبت
حمل التطبيق | تحميل التطبيق | متجر التطبيقات | الواجهة الرئيسية | نتائج البحث | البحث في الموقع
الصفحة غير موجودة | الصفحة التالية | الصفحة السابقة | الانتقال إلى المحتوى | تخطي إلى المحتوى
cookie policy | privacy policy | terms of use | terms of service | terms and conditions | all rights reserved
accept all | accept cookies | we use cookies | sign in | sign up | log in | read more
click here | contact us | about us | subscribe to our | your email address | skip to content | add to cart
forgot password | leave a comment | powered by | enable javascript | your browser
"""


def _folded(text: str) -> list[str]:
    return arabic.fold(text, "search").split()


@functools.cache
def stop_words() -> frozenset[str]:
    """All forms, folded; some thousands."""
    plain = set(_folded(_PARTICLES)) | set(_folded(_SPOKEN))
    with_endings = {p + e for p in _folded(_PREPOSITIONS) for e in _ENDINGS}
    conjoined = {c + w for c in "وف" for w in plain | with_endings if len(w) > 1}
    return frozenset(plain | with_endings | conjoined | set(_folded(_ENGLISH)) | {"و"})


@functools.cache
def furniture() -> tuple[tuple[str, ...], ...]:
    """Phrases of web furniture, folded, as tuples of words."""
    lines = _FURNITURE.replace("\n", "|").split("|")
    return tuple(sorted({tuple(words) for line in lines if (words := _folded(line))}))
