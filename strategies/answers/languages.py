"""Words that introduce, join, negate and reject answers, by language. Data for `statements`.

Each entry is a regular expression without capturing groups; a space matches any white space. Words of a language with
`is_spaced` match only as whole words.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Language:
    """Answer phrases of one language.

    Attributes:
        answer: Nouns for the answer.
        option: Nouns for an option.
        correct: Adjectives for a correct answer.
        lead: Articles and adverbs before an answer.
        copula: Words between the noun and the answer.
        intro: Words that a letter alone may follow, such as "so" or "it is".
        pick: Verbs of choosing in the first person.
        ending: Words after the answer that complete a sentence, such as "is" in Hindi.
        because: Words that begin a reason after the answer.
        join: Words between the items of a list or the ends of a range.
        negation: Words that negate an answer after them, or before them if `negates_before`.
        but: Words before the answer that replaces a negated one.
        wrong: Predicates of a wrong answer.
        decimal_comma: True if the comma separates decimals and the full stop separates thousands.
        is_spaced: True if white space separates words.
        negates_before: True if a negation follows the negated answer.
        has_copula: True if a word or mark is required between the noun and the answer.
    """

    answer: tuple[str, ...]
    option: tuple[str, ...]
    correct: tuple[str, ...]
    lead: tuple[str, ...]
    copula: tuple[str, ...]
    intro: tuple[str, ...]
    pick: tuple[str, ...]
    because: tuple[str, ...]
    join: tuple[str, ...]
    negation: tuple[str, ...]
    but: tuple[str, ...]
    wrong: tuple[str, ...]
    ending: tuple[str, ...] = ()
    decimal_comma: bool = False
    is_spaced: bool = True
    negates_before: bool = False
    has_copula: bool = True


LANGUAGES: dict[str, Language] = {
    "en": Language(
        answer=("answer",),
        option=("answer", "option", "choice", "letter", "alternative", "statement"),
        correct=("final", "correct", "right", "best", "true", "only", "my", "appropriate", "most appropriate"),
        lead=("the", "an?", "most likely", "clearly", "definitely", "probably", "indeed", "therefore", "thus", "likely", "must be", "called", "hence"),
        copula=("is", "equals", "be", "are", "was", "seems"),
        intro=("so", "therefore", "thus", "hence", "it is", "it['’]s", "that is", "that['’]s", "it must be", "this is"),
        pick=("pick", "choose", "chose", "select", "selected", "go with", "going with", "picked"),
        because=("because", "since", "as", "for", "due to", "given"),
        join=("and", "or", "to", "through", "by", "from", "versus", "vs", "plus", "minus", "times", "over", "mod", "modulo", "of",
              "divided by", "multiplied by", "the power of", "power", "more than", "less than", "fewer than", "out of", "up to",
              "and/or", "until", "till", "between", "root of", "as well as", "per"),
        negation=("not", "never", "neither", "nor", "cannot", r"\w+n['’]t", "no longer", "except", "none of", "anything but",
                  "rather than", "instead of", "rule out", "ruled out", "eliminate", "eliminated", "exclude", "far from"),
        but=("but(?: rather| instead)?", "rather", "instead", "it is", "it['’]s"),
        wrong=("wrong", "incorrect", "false", "not", r"\w+n['’]t", "impossible", "cannot", "ruled out",
               "eliminated", "excluded", "out", "invalid"),
    ),
    "de": Language(
        answer=("Antwort", "Lösung", "Endantwort", "Antwortet"),
        option=("Antwort", "Option", "Auswahl", "Antwortmöglichkeit", "Möglichkeit", "Buchstabe", "Variante"),
        correct=("richtige[rs]?", "korrekte[rs]?", "richtig", "korrekt", "endgültige", "beste"),
        lead=("die", "der", "das", "somit", "also", "wohl", "wahrscheinlich", "daher"),
        copula=("ist", "lautet", "wäre", "beträgt", "sind", "heißt"),
        intro=("also", "daher", "somit", "deshalb", "folglich", "es ist", "das ist", "also ist es"),
        pick=("wähle", "nehme", "würde", "entscheide mich für", "wähle ich", "nehme ich"),
        because=("weil", "da", "denn", "wegen"),
        join=("und", "oder", "bis", "sowie", "mal", "plus", "minus", "durch", "geteilt durch", "von", "hoch"),
        negation=("nicht", "keine?[rsnm]?", "weder", "noch", "niemals"),
        but=("sondern",),
        wrong=("falsch", "nicht", "inkorrekt", "unrichtig", "ausgeschlossen", "keine?"),
        decimal_comma=True,
    ),
    "fr": Language(
        answer=("réponse", "reponse"),
        option=("réponse", "reponse", "option", "choix", "proposition", "lettre"),
        correct=("correcte?", "bonne", "bon", "juste", "exacte?", "finale"),
        lead=("la", "le", "l['’]", "donc"),
        copula=("est", "serait", "sont", "vaut", "c['’]est"),
        intro=("donc", "ainsi", "c['’]est", "c['’]est donc", "par conséquent"),
        pick=("choisis", "choisirais", "sélectionne", "opte pour"),
        because=("car", "parce que?", "parce qu['’]", "puisque", "puisqu['’]"),
        join=("et", "ou", "à", "jusqu['’]à", "fois", "plus", "moins", "divisé par", "sur", "de", "par"),
        negation=("pas", "ni", "jamais", "non", "aucune?"),
        but=("mais(?: plutôt)?", "plutôt"),
        wrong=("fausses?", "faux", "incorrecte?s?", "pas", "erronée?s?", "exclue?", "éliminée?"),
        decimal_comma=True,
    ),
    "es": Language(
        answer=("respuesta", "contestación"),
        option=("respuesta", "opción", "opcion", "alternativa", "letra", "inciso"),
        correct=("correct[ao]", "verdader[ao]", "final", "mejor"),
        lead=("la", "el", "por tanto", "por lo tanto"),
        copula=("es", "sería", "seria", "son", "será"),
        intro=("así que", "por tanto", "por lo tanto", "entonces", "es", "es la", "luego", "en consecuencia"),
        pick=("elijo", "escojo", "elegiría", "selecciono", "elegiria", "escogería"),
        because=("porque", "ya que", "pues", "puesto que", "debido a"),
        join=("y", "o", "a", "e", "u", "hasta", "por", "más", "menos", "entre", "dividido por", "dividido entre", "de"),
        negation=("no", "ni", "nunca", "jamás", "ninguna?"),
        but=("sino(?: que es)?", "pero sí"),
        wrong=("incorrect[ao]s?", "fals[ao]s?", "erróne[ao]s?", "no", "equivocad[ao]s?", "descartad[ao]s?"),
        decimal_comma=True,
    ),
    "pt": Language(
        answer=("resposta",),
        option=("resposta", "opção", "opcao", "alternativa", "letra"),
        correct=("corret[ao]", "cert[ao]", "final", "melhor", "verdadeir[ao]"),
        lead=("a", "o", "portanto"),
        copula=("é", "seria", "são", "será"),
        intro=("portanto", "logo", "então", "assim", "é", "é a"),
        pick=("escolho", "escolheria", "seleciono"),
        because=("porque", "pois", "já que", "visto que"),
        join=("e", "ou", "a", "até", "por", "vezes", "mais", "menos", "dividido por", "de"),
        negation=("não", "nem", "nunca", "nenhuma?"),
        but=("mas(?: sim)?", "e sim"),
        wrong=("incorret[ao]s?", "errad[ao]s?", "fals[ao]s?", "não"),
        decimal_comma=True,
    ),
    "it": Language(
        answer=("risposta",),
        option=("risposta", "opzione", "scelta", "alternativa", "lettera"),
        correct=("corrett[ao]", "giust[ao]", "esatt[ao]", "finale", "migliore"),
        lead=("la", "il", "l['’]", "quindi"),
        copula=("è", "sarebbe", "sono", "e['’]"),
        intro=("quindi", "dunque", "perciò", "è", "è la", "allora"),
        pick=("scelgo", "sceglierei", "seleziono"),
        because=("perché", "poiché", "dato che", "in quanto"),
        join=("e", "o", "oppure", "a", "fino a", "per", "più", "meno", "diviso", "di"),
        negation=("non", "né", "mai", "nessuna?"),
        but=("ma(?: bensì)?", "bensì"),
        wrong=("sbagliat[ao]", "errat[ao]", "fals[ao]", "scorrett[ao]", "non"),
        decimal_comma=True,
    ),
    "ru": Language(
        answer=("ответ[аом]*",),
        option=("ответ", "вариант(?: ответа)?", "буква", "вариантом"),
        correct=("правильный", "правильным", "правильн[а-я]{1,2}", "верный", "верным", "верн[а-я]{1,2}", "окончательный"),
        lead=("это", "является"),
        copula=("это", "является", "будет", "равен", "равна", "равно", "[-–—]"),
        intro=("значит", "следовательно", "поэтому", "итак", "это"),
        pick=("выбираю", "выберу", "выбрал"),
        because=("потому что", "так как", "поскольку", "ибо"),
        join=("и", "или", "до", "по", "на", "плюс", "минус", "умножить на", "делить на", "либо", "из"),
        negation=("не", "ни", "нет"),
        but=("а", "но"),
        wrong=("неверн[а-я]{1,3}", "неправильн[а-я]{1,3}", "не", "ошибочн[а-я]{1,3}"),
        decimal_comma=True,
        has_copula=False,
    ),
    "zh": Language(
        answer=("答案", "答"),
        option=("选项", "選項", "答案", "字母"),
        correct=("正确(?:的)?", "正確(?:的)?", "最终", "最終"),
        lead=("就", "的", "应该?", "應該?"),
        copula=("应?该?(?:选择|选)", "應?該?(?:選擇|選)", "是", "为", "為", "等于"),
        intro=("所以", "因此", "故", "所以选", "因此选", "故选", "故選", "所以選", "而是", "即", "是"),
        pick=("选择?", "選擇?"),
        because=("因为", "因為", "由于"),
        join=("和", "或", "与", "與", "到", "至", "及", "、", "乘", "加", "减", "除以", "分之", "乘以"),
        negation=("不是", "并非", "不选", "不選", "不", "非", "没有"),
        but=("而是", "而选", "而"),
        wrong=("错误?", "錯誤?", "不正确", "不正確", "不对", "不對", "是错", "不是", "不"),
        ending=("项", "項", "选项"),
        is_spaced=False,
        has_copula=False,
    ),
    "ja": Language(
        answer=("答え?", "解答", "正解", "回答", "正答"),
        option=("選択肢", "答え", "記号"),
        correct=("正しい", "正解の?", "最終的な"),
        lead=("の",),
        copula=("は", "が"),
        intro=("したがって", "よって", "だから", "ゆえに", "つまり", "従って"),
        pick=("選択は",),
        because=("なぜなら", "ので", "から", "理由は"),
        join=("と", "または", "か", "から", "や", "及び", "または、", "分の", "、"),
        negation=("ではなく(?:て)?", "ではない", "ではありません", "じゃない", "でなく", "じゃなく"),
        but=("ではなく(?:て)?", "でなく"),
        wrong=("は誤り", "は間違い", "は不正解", "ではない", "ではありません", "は違", "は正しくない", "は不適"),
        ending=("です", "だ", "である", "でしょう", "になります", "となります", "が正解", "が正しい", "を選"),
        is_spaced=False,
        negates_before=True,
        has_copula=False,
    ),
    "ko": Language(
        answer=("정답", "답안", "답", "해답"),
        option=("보기", "선택지", "옵션", "선택"),
        correct=("옳은", "맞는", "올바른", "최종", "정답"),
        lead=(),
        copula=("은", "는", "이", "가"),
        intro=("따라서", "그러므로", "그래서", "즉"),
        pick=("선택은",),
        because=("왜냐하면", "때문"),
        join=("와", "과", "또는", "및", "에서", "부터", "이나", "나", "혹은", "분의", "그리고"),
        negation=(r"[이가]? ?아니라", r"[이가]? ?아닙", r"[이가]? ?아니", r"[이가]? ?아닌"),
        but=(r"[이가]? ?아니라", r"[이가]? ?아니고"),
        wrong=("[은는이가] ?틀", "[은는이가] ?오답", "[은는이가] ?아니", "[은는이가] ?아닙", "[은는이가] ?잘못"),
        ending=("입니다", "이다", "예요", "이에요", "번", "가 정답", "이 정답", "가 맞", "이 맞", "를 선택", "을 선택", "다"),
        is_spaced=False,
        negates_before=True,
        has_copula=False,
    ),
    "ar": Language(
        answer=("[وف]?ال[إا]جابة", "[وف]?الجواب", "[إا]جابة", "جواب"),
        option=("الخيار", "الاختيار", "خيار", "الحرف"),
        correct=("الصحيحة?", "النهائية?", "صحيحة?"),
        lead=(),
        copula=("هي", "هو", "تساوي", "يساوي"),
        intro=("لذلك", "إذن", "إذًا", "إذاً", "بالتالي", "لذا"),
        pick=("[أا]ختار", "سأختار"),
        because=("ل[أا]ن", "بسبب"),
        join=("و", "أو", "إلى", "او", "في"),
        negation=("ليست?", "لا", "غير"),
        but=("بل", "وإنما", "لكن"),
        wrong=("خاطئة?", "خط[أا]", "غير صحيحة?", "ليست?"),
        has_copula=False,
    ),
    "hi": Language(
        answer=("उत्तर", "जवाब"),
        option=("विकल्प", "उत्तर"),
        correct=("सही", "अंतिम"),
        lead=(),
        copula=("है", "होगा"),
        intro=("इसलिए", "अतः", "तो"),
        pick=("चुनता हूँ",),
        because=("क्योंकि", "चूंकि"),
        join=("और", "या", "से", "तथा", "एवं", "अथवा", "बटा"),
        negation=("नहीं",),
        but=("नहीं,? ?बल्कि", "बल्कि"),
        wrong=("गलत", "ग़लत", "नहीं", "सही नहीं"),
        ending=("है", "होगा", "हैं", "सही है"),
        is_spaced=False,
        negates_before=True,
        has_copula=False,
    ),
    "tr": Language(
        answer=("cevap", "cevab[ıi]", "yanıt", "yanıtı"),
        option=("seçenek", "seçeneği", "şık", "şıkkı", "cevap"),
        correct=("doğru", "nihai"),
        lead=(),
        copula=("olarak", "şudur"),
        intro=("bu nedenle", "dolayısıyla", "öyleyse", "yani"),
        pick=("seçimim",),
        because=("çünkü", "zira"),
        join=("ve", "veya", "ya da", "ile", "kere", "artı", "eksi", "bölü"),
        negation=("değil(?:dir)?",),
        but=("değil(?:dir)?", "aksine"),
        wrong=("yanlış(?:tır)?", "değil(?:dir)?", "hatalı(?:dır)?"),
        ending=("['’]?[dt][ıiuü]r", "şıkkıdır", "şıkkı", "seçeneğidir", "seçeneği", "olmalı(?:dır)?", "olur"),
        decimal_comma=True,
        negates_before=True,
        has_copula=False,
    ),
    "vi": Language(
        answer=("đáp án", "câu trả lời", "trả lời", "đáp số"),
        option=("phương án", "lựa chọn", "đáp án", "câu"),
        correct=("đúng", "chính xác", "cuối cùng", "đúng nhất"),
        lead=(),
        copula=("là", "sẽ là", "bằng"),
        intro=("vậy", "do đó", "vì vậy", "vì thế", "nên", "mà là"),
        pick=("chọn",),
        because=("vì", "bởi vì", "do"),
        join=("và", "hoặc", "đến", "hay", "tới", "nhân", "cộng", "trừ", "chia"),
        negation=("không(?: phải)?(?: là)?", "chẳng"),
        but=("mà(?: là)?",),
        wrong=("sai", "không"),
        decimal_comma=True,
    ),
}

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
    "Jan", "Feb", "Mar", "Apr", "Jun", "Jul", "Aug", "Sept?", "Oct", "Nov", "Dec",
    "Januar", "Februar", "März", "Mai", "Juni", "Juli", "Oktober", "Dezember",
    "(?i:janvier|février|mars|avril|mai|juin|juillet|août|septembre|octobre|novembre|décembre)",
    "(?i:enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre)",
    "(?i:janeiro|fevereiro|março|maio|junho|julho|setembro|outubro|novembro|dezembro)",
    "(?i:gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre)",
    "(?i:января|февраля|марта|апреля|мая|июня|июля|августа|сентября|октября|ноября|декабря)",
    "(?i:Ocak|Şubat|Mart|Nisan|Mayıs|Haziran|Temmuz|Ağustos|Eylül|Ekim|Kasım|Aralık)",
    "(?i:tháng)", "जनवरी", "फरवरी", "मार्च", "अप्रैल", "मई", "जून", "जुलाई", "अगस्त", "सितंबर", "अक्टूबर", "नवंबर", "दिसंबर",
    "يناير", "فبراير", "مارس", "أبريل", "مايو", "يونيو", "يوليو", "أغسطس", "سبتمبر", "أكتوبر", "نوفمبر", "ديسمبر",
)  # fmt: skip
"""Names of months; a number next to one is part of a date."""

UNITS = (
    # Time.
    "years?", "yrs?", "months?", "weeks?", "days?", "hours?", "hrs?", "h", "minutes?", "mins?", "min", "m", "seconds?", "secs?", "s",
    "Jahre?n?", "Monate?n?", "Wochen?", "Tage?n?", "Stunden?", "Minuten?", "Sekunden?", "Std", "ans?", "années?", "mois", "semaines?",
    "jours?", "heures?", "secondes?", "años?", "mes(?:es)?", "semanas?", "días?", "horas?", "minutos?", "segundos?", "anos?", "dias?",
    "anni?o?", "mesi", "settiman[ae]", "giorn[oi]", "or[ae]", "minut[oi]", "second[oi]", "лет", "год[а]?", "месяц[а-я]{0,2}",
    "недел[а-я]{1,2}", "дн[а-я]{1,2}", "день", "час[а-я]{0,2}", "минут[а-я]?", "секунд[а-я]?", "yıl", "ay", "hafta", "gün", "saat",
    "dakika", "saniye", "năm", "tuần", "ngày", "giờ", "phút", "giây", "年", "个?月", "周", "天", "小时", "小時", "点", "點", "分钟?",
    "分鐘", "秒", "日", "時間?", "分間?", "秒間?", "년", "개?월", "주", "일", "시간?", "분", "초", "ساعات?", "ساعة", "دقيقة", "دقائق",
    "ثانية", "يوم", "أيام", "घंटे?", "मिनट", "सेकंड", "दिन", "वर्ष", "साल",
    # Length, mass, volume, money, angle.
    "feet", "foot", "ft", "inch(?:es)?", "in", "yards?", "yd", "miles?", "mi", "km", "cm", "mm", "met(?:er|re)s?", "kilomet(?:er|re)s?",
    "centimet(?:er|re)s?", "millimet(?:er|re)s?", "Meter", "Zentimeter", "Kilometer", "mètres?", "metros?", "centímetros?", "metri",
    "米", "厘米", "千米", "公里", "pounds?", "lbs?", "ounces?", "oz", "kg", "kilograms?", "g", "grams?", "Gramm", "Kilogramm",
    "grammes?", "gramos?", "公斤", "克", "千克", "lit(?:er|re)s?", "l", "L", "ml", "mL", "gallons?", "quarts?", "pints?", "cups?",
    "dollars?", "cents?", "euros?", "Euro", "pounds sterling", "pence", "shillings?", "rupees?", "paise", "元", "角", "块",
    "円", "원", "рубл[а-я]{1,2}", "копе[а-я]{1,3}", "degrees?", "deg",
)  # fmt: skip
"""Units that two numbers may form one quantity with, as in "2 hours 30 minutes"."""

SCALES = (
    "squared", "cubed", "factorial", "dozens?", "gross", "scores?", "hundred", "lakhs?", "crores?", "thousandths?", "hundredths?",
    "tenths?", "thirds?", "quarters?", "halves", "half", "fourths?", "fifths?", "sixths?", "sevenths?", "eighths?", "ninths?",
    "Tausend", "Millione?n?", "Milliarden?", "Dutzend", "mille", "millions?", "milliards?", "douzaines?", "mil", "millón", "millones",
    "milhões", "milhão", "mila", "milioni", "milione", "miliardi", "тысяч[а-я]?", "миллион[а-я]{0,2}", "миллиард[а-я]{0,2}", "bin",
    "milyon", "milyar", "nghìn", "ngàn", "triệu", "tỷ", "万", "萬", "亿", "億", "千", "百", "만", "억", "천", "हज़ार", "लाख", "करोड़",
    "ألف", "مليون", "Quadrat", "au carré", "au cube", "al cuadrado", "al cubo", "ao quadrado", "al quadrato",
)  # fmt: skip
"""Words after a number that change its value."""

PREFIXES = (
    "twice", "thrice", "double", "triple", "half(?: of)?", "halve", "root of", "root", "third of", "quarter of", "factorial of",
    "doppelt(?: so viel wie)?", "Hälfte von", "Wurzel (?:aus|von)", "racine (?:carrée )?de", "raíz (?:cuadrada )?de", "moitié de",
    "mitad de", "metade de", "metà di", "корень из", "половина", "log", "ln", "sin", "cos", "tan", "exp", "sqrt", "square of",
    "cube of", "square root of", "negative", "minus", "moins", "menos", "meno", "минус", "负", "負", "マイナス", "ناقص", "eksi", "âm",
)  # fmt: skip
"""Words before a number that change its value."""

LABELS = (
    "steps?", "examples?", "equations?", "eqs?", "eqns?", "pages?", "pp?", "chapters?", "chap", "ch", "sections?", "sec", "figures?", "figs?",
    "tables?", "tab", "questions?", "problems?", "exercises?", "notes?", "footnotes?", "lines?", "rows?", "columns?", "parts?", "cases?",
    "methods?", "theorems?", "lemmas?", "ref", "refs", "versions?", "ver", "v", "level", "grade", "day", "week", "room", "phase",
    "Schritte?", "Seiten?", "Kapitel", "Abb", "Abbildung", "Gleichung", "Gl", "Tabelle", "Aufgabe", "étape", "équation", "figure",
    "chapitre", "paso", "ecuación", "figura", "capítulo", "página", "passo", "equação", "equazione", "capitolo", "шаг", "рис",
    "уравнение", "глава", "第", "步骤", "图", "式", "ステップ", "図", "단계", "그림", "الخطوة", "चरण", "adım", "şekil", "bước", "hình",
)  # fmt: skip
"""Words before a number that make it a reference."""

ABBREVIATIONS = (
    "dr", "mr", "mrs", "ms", "prof", "st", "mt", "jr", "sr", "vs", "e.g", "i.e", "cf", "viz", "al", "ca", "approx", "rs", "inc", "ltd",
    "z.b", "d.h", "bzw", "usw", "evtl", "ggf", "sog", "zzgl", "inkl", "env", "p.ex", "aprox", "sr", "sra", "av", "u.s", "u.k", "a.m", "p.m",
    "resp", "incl", "excl", "max", "min", "avg", "est", "dept", "gen", "gov", "hon", "т.е", "т.к", "т.д", "руб", "coeff", "const",
)  # fmt: skip
"""Abbreviations that end no sentence, in lower case without the last full stop."""

NUMBERED_ABBREVIATIONS = (
    "no", "nos", "nr", "num", "núm", "n", "fig", "figs", "eq", "eqs", "eqn", "p", "pp", "pg", "vol", "ch", "chap", "sec", "art", "ver", "ex",
    "ft", "in", "hr", "hrs", "mins", "oz", "lb", "lbs", "yd", "mi", "cm", "km", "kg", "g", "abb", "gl", "tab", "abs", "kap", "rs", "inr", "usd",
    "std", "abt", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec", "рис", "стр", "гл", "prob", "pt", "ref",
)  # fmt: skip
"""Abbreviations that end no sentence if a number follows."""
