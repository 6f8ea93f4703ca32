r"""Units of answers: measures with exact factors, currencies, percent, times of day, and counted nouns.

A noun ("18 apples") is a unit like any other. Units of one dimension convert exactly: 100 cm is 1 m. Percent, angles and
temperatures do not convert.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from secondpass.strategies.answers.forms.folding import TEXT_MARK, plain
from secondpass.strategies.answers.forms.number_words import is_part

_LENGTH = (
    "m 1 meter metre meters metres|cm 1/100 centimeter centimetre centimeters centimetres|"
    "mm 1/1000 millimeter millimetre millimeters millimetres|km 1000 kilometer kilometre kilometers kilometres kms|"
    "in 127/5000 inch inches|ft 381/1250 foot feet|yd 1143/1250 yard yards yds|mi 201168/125 mile miles|"
    "nm 1/1000000000 nanometer nanometre nanometers nanometres"
)
_TABLE = {
    "length": _LENGTH,
    "mass": "kg 1000 kilogram kilograms kilo kilos kgs|g 1 gram grams gm gms|mg 1/1000 milligram milligrams|"
    "lb 45359237/100000 lbs pound pounds|oz 45359237/1600000 ounce ounces|ton 907184.74 tons|"
    "tonne 1000000 tonnes",
    "time": "s 1 second seconds sec secs|min 60 minute minutes mins|h 3600 hour hours hr hrs|day 86400 days|"
    "week 604800 weeks wk wks|ms 1/1000 millisecond milliseconds",
    "calendar": "month 1 months|year 12 years yr yrs|decade 120 decades|century 1200 centuries",
    "usd": "dollar 1 dollars usd bucks buck|cent 1/100 cents",
    "eur": "euro 1 euros eur",
    "gbp": "pound_sterling 1 gbp pence_pound|pence 1/100 penny_sterling",
    "inr": "rupee 1 rupees rs inr|paisa 1/100 paise",
    "jpy": "yen 1 jpy",
    "cny": "yuan 1 rmb cny renminbi",
    "percent": "% 1 percent pct per_cent",
    "angle": "degree 1 degrees deg degs",
    "radian": "radian 1 radians rad rads",
    "celsius": "celsius 1 degc",
    "fahrenheit": "fahrenheit 1 degf",
    "kelvin": "K 1 kelvin kelvins",
    "speed": "mph 1397/3125 |kph 5/18 kmh kmph|knot 463/900 knots",
    "volume": "l 1 L liter litre liters litres|ml 1/1000 mL milliliter millilitre milliliters millilitres|"
    "cc 1/1000|gallon 473176473/125000000 gallons gal|quart 473176473/500000000 quarts qt|"
    "pint 473176473/1000000000 pints pt|cup 473176473/2000000000 cups|dl 1/10 deciliter deciliters",
    "area": "hectare 10000 hectares ha|acre 316160658/78125 acres",
    "force": "N 1 newton newtons",
    "energy": "J 1 joule joules|kJ 1000 kilojoule kilojoules|kWh 3600000",
    "heat": "cal 1 calorie calories|kcal 1000 kilocalorie kilocalories",
    "power": "W 1 watt watts|kW 1000 kilowatt kilowatts|MW 1000000 megawatt megawatts",
    "volt": "V 1 volt volts",
    "ampere": "A 1 amp amps ampere amperes",
    "ohm": "ohm 1 ohms",
    "frequency": "Hz 1 hertz|kHz 1000 kilohertz|MHz 1000000 megahertz",
    "pressure": "Pa 1 pascal pascals|kPa 1000",
    "amount": "mol 1 mole moles",
    "data": "bit 1 bits|byte 8 bytes",
    "square units": "square_unit 1 square_units sq_units sq_unit",
    "cubic units": "cubic_unit 1 cubic_units cu_units",
    "am": "am 1 a.m. a.m",
    "pm": "pm 1 p.m. p.m",
}
_DERIVED = {
    "speed": (("length", 1), ("time", -1)),
    "area": (("length", 2),),
    "volume": (("length", 3),),
    "square units": (("noun unit", 2),),
    "cubic units": (("noun unit", 3),),
}
_DERIVED_FACTOR = {"volume": Fraction(1, 1000)}
_CURRENCY = {
    "$": "dollar",
    "US$": "dollar",
    "USD": "dollar",
    "\u20ac": "euro",
    "EUR": "euro",
    "\u00a3": "pound sterling",
    "GBP": "pound sterling",
    "\u00a5": "yen",
    "JPY": "yen",
    "\u20b9": "rupee",
    "Rs.": "rupee",
    "Rs": "rupee",
    "INR": "rupee",
}
_ATTACHED = frozenset("mshglL")
_NOT_NOUNS = frozenset(
    [
        "and",
        "or",
        "is",
        "are",
        "pi",
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "log",
        "ln",
        "exp",
        "sqrt",
        "mod",
        "remainder",
        "if",
        "for",
        "when",
        "then",
        "than",
        "infinity",
        "inf",
        "to",
        "choose",
        "not",
        "no",
        "point",
        "squared",
        "cubed",
        "plus",
        "minus",
        "times",
        "over",
        "under",
        "above",
        "below",
        "before",
        "after",
        "at",
        "by",
        "of",
        "from",
    ]
)
_IRREGULAR = {
    "people": "person",
    "children": "child",
    "men": "man",
    "women": "woman",
    "mice": "mouse",
    "geese": "goose",
    "teeth": "tooth",
    "leaves": "leaf",
    "loaves": "loaf",
    "knives": "knife",
}
FILLER_END = re.compile(r"(?<=\d) (?:in total|in all|altogether|total|each|only)$", re.IGNORECASE)
_FILLER = re.compile(r"\b(?:in total|in all|altogether|total|each|only)\b", re.IGNORECASE)
_POWER = re.compile(r"([A-Za-z]+)(?:\s?\^\s?\{?(-?\d)\}?|([23]))")
_MAX_PHRASE = 60
_MAX_WORDS = 6
PREFIX = re.compile(
    r"([-+]?)\s?(US\$|USD|\\?\$|\u20ac|EUR|\u00a3|GBP|\u00a5|JPY|\u20b9|Rs\.?|INR)\s*(?=[-+\d.\\])"
)
SUFFIX = re.compile(r"(?<=[\dkMBn\s])\s?(\\?\$|\u20ac|\u00a3|\u00a5|\u20b9|\u00a2)$")


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: its dimensions with their powers, sorted, and its factor to their base unit."""

    dimensions: tuple[tuple[str, int], ...]
    factor: Fraction

    @property
    def is_noun(self) -> bool:
        """True if the unit counts things rather than measures."""
        return any(name.startswith("noun ") for name, _ in self.dimensions)

    @property
    def name(self) -> str:
        """A readable name, equal only for equal units."""
        parts = [name if power == 1 else f"{name}^{power}" for name, power in self.dimensions]
        return " ".join(([] if self.factor == 1 else [str(self.factor)]) + parts)


def _known() -> dict[str, Unit]:
    units: dict[str, Unit] = {}
    for dimension, row in _TABLE.items():
        for entry in row.split("|"):
            name, factor, *others = entry.split()
            scale = Fraction(factor) * _DERIVED_FACTOR.get(dimension, 1)
            unit = Unit(_DERIVED.get(dimension, ((dimension, 1),)), scale)
            for each in (name, *others):
                units[each.replace("_", " ")] = unit
    return units


_KNOWN = _known()
_FOLDED = {
    name.casefold(): unit
    for name, unit in _KNOWN.items()
    if len(name) > 2 and not name.startswith("M")  # mHz is not MHz
}


def currency(sign: str) -> Unit:
    """Return the unit of a currency sign that `PREFIX` or `SUFFIX` matched."""
    sign = sign.removeprefix("\\")
    return _KNOWN["cent"] if sign == "\u00a2" else _KNOWN[_CURRENCY[sign]]


def parse_unit(phrase: str, *, attached: bool = False, nouns: bool = True) -> Unit | None:
    """Return the unit that a phrase names, None if it names none.

    Args:
        phrase: Folded text after a number: "cm", "square feet", "m/s^2", "red apples".
        attached: The phrase follows the number without a space: only common abbreviations are units then.
        nouns: Words that are not in the table count things.
    """
    is_text = TEXT_MARK in phrase
    phrase = (
        " ".join(_FILLER.sub(" ", plain(phrase)).split()).strip(" .,;")
        if len(phrase) <= _MAX_PHRASE
        else ""
    )
    if not phrase:
        return None
    if attached and len(phrase) == 1 and phrase not in _ATTACHED and not is_text:
        return None
    if unit := _lookup(phrase) or _temperature(phrase):
        return unit
    above, *below = re.split(r" ?/ ?| per | an (?=hour)", phrase)
    if len(below) > 1:
        return None
    parts = [_product(part, nouns=nouns and not attached) for part in (above, *below)]
    if any(part is None for part in parts):
        return None
    return _quotient([part for part in parts if part is not None])


def _lookup(phrase: str) -> Unit | None:
    bare = phrase if phrase in _KNOWN else phrase.rstrip(".")
    return _KNOWN.get(bare) or _FOLDED.get(bare.casefold())


def _temperature(phrase: str) -> Unit | None:
    match = re.fullmatch(r"(?:degrees?|deg|\\circ|\\degree)\s*([A-Za-z]+)?", phrase, re.IGNORECASE)
    if not match:
        return None
    if not match[1]:
        return _KNOWN["degree"]
    scale = {"c": "celsius", "f": "fahrenheit", "k": "K"}.get(match[1].lower(), match[1].lower())
    return _KNOWN.get(scale) if scale in ("celsius", "fahrenheit", "K") else None


def _quotient(parts: list[Unit]) -> Unit:
    powers: Counter[str] = Counter()
    factor = Fraction(1)
    for at, unit in enumerate(parts):
        for name, power in unit.dimensions:
            powers[name] += -power if at else power
        factor = factor / unit.factor if at else factor * unit.factor
    return Unit(tuple(sorted((name, power) for name, power in powers.items() if power)), factor)


def _product(phrase: str, *, nouns: bool) -> Unit | None:
    """Return the unit of a phrase without "per"."""
    if unit := _lookup(phrase):
        return unit
    words = phrase.split()
    if not 1 <= len(words) <= _MAX_WORDS:
        return None
    if unit := _power(phrase, words) or ("-" in phrase and _factors(phrase)) or None:
        return unit
    return _noun(words) if nouns else None


def _power(phrase: str, words: list[str]) -> Unit | None:
    """Return the unit of "square feet", "feet squared" or "ft^2"."""
    power = {"square": 2, "sq": 2, "sq.": 2, "cubic": 3, "cu": 3}.get(words[0].lower())
    if power and len(words) == 2 and (unit := _lookup(words[1])):
        return _raised(unit, power)
    power = {"squared": 2, "cubed": 3}.get(words[-1].lower())
    if power and len(words) == 2 and (unit := _lookup(words[0])):
        return _raised(unit, power)
    match = _POWER.fullmatch(phrase)
    base = (_COUNTED if match[1] in ("unit", "units") else _lookup(match[1])) if match else None
    return _raised(base, int(match[2] or match[3])) if match and base else None


def _factors(phrase: str) -> Unit | None:
    """Return the unit of "m s^-2", which has a power of each factor."""
    powers: Counter[str] = Counter()
    scale = Fraction(1)
    for word in re.sub(r"\s?\^\s?", "^", phrase).split():
        match = _POWER.fullmatch(word)
        unit = _lookup(match[1] if match else word)
        if unit is None:
            return None
        unit = _raised(unit, int(match[2] or match[3])) if match else unit
        powers.update(dict(unit.dimensions))
        scale *= unit.factor
    return Unit(tuple(sorted((name, power) for name, power in powers.items() if power)), scale)


_COUNTED = Unit((("noun unit", 1),), Fraction(1))


def _raised(unit: Unit, power: int) -> Unit:
    raised = tuple((name, each * power) for name, each in unit.dimensions)
    return Unit(raised, unit.factor**power)


def _noun(words: list[str]) -> Unit | None:
    folded = [word.lower().strip(".,'") for word in words]
    is_noun = all(re.fullmatch("[a-z]+(?:[-'][a-z]+)*", word) for word in folded)
    if not is_noun or _NOT_NOUNS.intersection(folded) or is_part(folded[-1]):
        return None
    if len("".join(folded)) < 3:
        return None
    folded[-1] = _singular(folded[-1])
    return Unit(((f"noun {' '.join(folded)}", 1),), Fraction(1))


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if re.search(r"(?:s|x|ch|sh)es$", word):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


_HOW_MANY = re.compile(
    r"\bhow many (?:more |additional |total |different |other |whole |full )?((?:[a-z]+(?: |\b)){1,3})",
    re.IGNORECASE,
)
_ASKED_IN = re.compile(
    r"\b(?:in (?!(?:second|minute|hour|day|week|month|year|decade|century)\b)"  # in week 3
    r"|(?:to the nearest|nearest|number of) )((?:square |cubic )?[a-z]+(?: per [a-z]+| squared)?)",
    re.IGNORECASE,
)
_QUESTION_WINDOW = 2000


def asked_unit(question: str) -> Unit | None:
    """Return the only unit that a question names, as in "how many minutes" or "in square feet"."""
    tail = " ".join(question[-_QUESTION_WINDOW:].split())
    if counted := list(_HOW_MANY.finditer(tail)):
        words = counted[-1][1].split()
        for length in range(len(words), 0, -1):
            if unit := parse_unit(" ".join(words[:length]), nouns=False):
                return unit
        return parse_unit(words[0])
    sentences = [each for each in re.split(r"(?<=[.?!]) ", tail) if "?" in each or "nswer" in each]
    found = {
        unit
        for sentence in sentences[-2:]
        for match in _ASKED_IN.finditer(sentence)
        if (unit := _first_known(match[1]))
    }
    return found.pop() if len(found) == 1 else None


def _first_known(phrase: str) -> Unit | None:
    words = phrase.split()
    spans = (" ".join(words[:length]) for length in range(len(words), 0, -1))
    return next(
        (unit for span in spans if len(span) > 1 and (unit := parse_unit(span, nouns=False))), None
    )
