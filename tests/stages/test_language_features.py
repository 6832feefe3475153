"""A folder in CLDF with the columns of WALS, and a user's own table."""

import pytest

from polypref.errors import InputError
from polypref.stages.language_features import read_features

# The headers are those of WALS 2020.3; the rows are made up.
CLDF = {
    "languages.csv": """\
ID,Name,Macroarea,Latitude,Longitude,Glottocode,ISO639P3code,Family,Subfamily,Genus,GenusIcon,ISO_codes,Samples_100,Samples_200,Country_ID,Source,Parent_ID
genus-germanic,Germanic,,,,,,,,,,,,,,,
gbl,German (Berlin),Eurasia,52.5,13.3,stan1295,deu,Indo-European,,Germanic,,deu,false,false,DE,,genus-germanic
ger,German,Eurasia,52,10,stan1295,deu,Indo-European,,Germanic,,deu,true,true,DE,,genus-germanic
eng,English,Eurasia,52,0,stan1293,eng,Indo-European,,Germanic,,eng,true,true,GB,,genus-germanic
mnd,Mandarin,Eurasia,34,110,mand1415,cmn,Sino-Tibetan,,Chinese,,cmn,true,true,CN,,genus-chinese
alb,Albanian,Eurasia,41,20,,,Indo-European,,Albanian,,aln als,false,false,AL,,genus-albanian
tur,Turkish,Eurasia,39,35,nucl1301,tur,Altaic,,Turkic,,tur,true,true,TR,,genus-turkic
xxx,Lost,Eurasia,0,0,,qqq1,,,,,,false,false,,,
""",
    "parameters.csv": """\
ID,Name,Description,Chapter_ID
81A,"Order of Subject, Object and Verb",,81
13A,Tone,,13
49A,Number of Cases,,49
""",
    "codes.csv": """\
ID,Parameter_ID,Name,Description,Number,icon
81A-1,81A,SOV,Subject-object-verb,1,c00d
81A-2,81A,SVO,Subject-verb-object,2,cd00
81A-7,81A,No dominant order,No dominant order,7,cccc
13A-1,13A,No tones,No tones,1,cfff
13A-3,13A,Complex tone system,Complex tone system,3,cf00
""",
    "values.csv": """\
ID,Language_ID,Parameter_ID,Value,Code_ID,Comment,Source,Example_ID
13A-gbl,gbl,13A,3,13A-3,,,
81A-ger,ger,81A,7,81A-7,"a comment, with
two lines",Lockwood-1968,igt-1 igt-2
13A-ger,ger,13A,1,13A-1,,,
81A-eng,eng,81A,2,81A-2,,,
49A-eng,eng,49A,?,,,,
81A-mnd,mnd,81A,2,81A-2,,,
13A-mnd,mnd,13A,3,13A-3,,,
49A-mnd,mnd,49A,0,,,,
81A-alb,alb,81A,2,81A-2,,,
13A-eng,eng,13A,1,13A-1,,,
13A-eng-b,eng,13A,3,13A-3,,,
""",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in CLDF.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_wals_is_read_as_it_is(folder):
    """Turkish has an entry without values and Vietnamese none, so nothing is known of either."""
    found = read_features(folder, ["de", "en", "zh-Hans", "sq", "tr", "vi"])
    assert found.names == {"81A": "Order of Subject, Object and Verb", "13A": "Tone", "49A": "Number of Cases"}
    assert found.values == {
        "de": {"81A": "81A-7", "13A": "13A-1"},
        "en": {"81A": "81A-2"},
        "zh-Hans": {"81A": "81A-2", "13A": "13A-3", "49A": "0"},
        "sq": {"81A": "81A-2"},
    }
    assert found.labels["81A-7"] == "No dominant order"


def test_of_several_entries_the_one_with_the_most_values_is_taken_and_said(folder):
    german, clash = read_features(folder, ["de", "en"]).remarks
    assert german == "de is German, which has the most values; left aside: German (Berlin)"
    assert clash == "several values of one feature and language, which count as missing: 1"


def test_the_repositorys_root_does_as_well(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("wals")
    folder.rename(root / "cldf")
    assert read_features(root, ["en"]).values == {"en": {"81A": "81A-2"}}


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("codes.csv", None, "lacks codes.csv; name the cldf folder"),
        (
            "values.csv",
            ("Parameter_ID", "Feature"),
            "values.csv:1: the column Parameter_ID is missing; found: ID, Lang",
        ),
        ("values.csv", ("13A-mnd,mnd,13A", "14A-mnd,mnd,14A"), r"values.csv:\d+: the parameter 14A is not in"),
        ("languages.csv", ("ISO639P3code", "iso"), "languages.csv:1: the column ISO639P3code is missing"),
    ],
)
def test_another_folder_is_told(folder, name, change, says):
    if change is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(CLDF[name].replace(*change), encoding="utf-8")
    with pytest.raises(InputError, match=says):
        read_features(folder, ["zh"])


def test_a_table_of_ones_own(tmp_path):
    """A tag that is there wins over its language; what is empty or ? is missing; NA is a value, and that is said."""
    table = tmp_path / "mine.csv"
    table.write_text(
        "language,order,adjective\nGerman,V2,AN\nsr,SVO,?\nsr-Cyrl,SVO,AN\nes,,NA\nvi,,\n", encoding="utf-8"
    )
    found = read_features(table, ["de", "es", "sr-Cyrl", "sr-Latn", "vi", "en"])
    assert found.names == {"order": "order", "adjective": "adjective"}
    assert found.values == {
        "de": {"order": "V2", "adjective": "AN"},
        "es": {"adjective": "NA"},
        "sr-Cyrl": {"order": "SVO", "adjective": "AN"},
        "sr-Latn": {"order": "SVO"},
    }
    assert found.remarks == ("mine.csv: NA is read as a value; leave a field empty, or write ?, where none is known",)
    assert read_features(table, ["de"]).remarks == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lang,order\nde,V2\n", "mine.csv:1: the column language is missing; found: lang, order"),
        ("language,order\nKlingonish!,V2\n", "mine.csv:2: 'Klingonish!' is no language"),
        ("language,order\nde,V2\nGerman,V2\n", "mine.csv:3: de comes a second time"),
        ("language,order\nde,V2,AN\n", "mine.csv:2: there are more fields than the header has"),
        ("language,order,order\nde,V2,V2\n", "mine.csv:1: a column comes twice or has no name"),
        ("language\nde\n", "mine.csv has no features"),
        ("", "the column language is missing; found: none"),
    ],
)
def test_a_wrong_table_is_told(tmp_path, text, says):
    table = tmp_path / "mine.csv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says):
        read_features(table, ["de"])


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_features(tmp_path / "none.csv", ["de"])
    (tmp_path / "latin.csv").write_bytes("language,order\nde,für\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_features(tmp_path / "latin.csv", ["de"])
