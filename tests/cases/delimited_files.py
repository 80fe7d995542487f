"""Small delimited files that were misread without a word, or whose error pointed away from the cause."""

from tests.cases.case import Case, both, done, fails, scored
from tests.cases.labelled_files import labelled, retraining, says

_CP1252 = labelled(["négatif", "positif"]).decode().encode("cp1252")
_SECONDS = 150.0  # of a retraining, beyond the scoring of good data
CASES = [
    Case(
        "tsv",
        "done; 2 rows scored of 4, 0 rejected",
        "4 rows, with their quotes",
        lambda: {
            "reviews.tsv": b'id\ttext\n1\t"Best movie ever\n2\tnot bad at all\n3\tthe worst"\n4\tok\n'
        },
        both(done, scored(reviews=4)),
    ),
    Case(
        "csv-unquoted",
        "done; 2 rows scored of 4, 0 rejected",
        "an error that names the lines that could be rows",
        lambda: {
            "b.csv": b'id,text\n1,"Best movie ever\n2,not bad at all\n3,the worst"\n4,ok\n',
        },
        fails("b.csv", "opens in line 2 closes in line 4"),
    ),
    Case(
        "csv-line-breaks",
        "3 rows",
        "line breaks inside of quotes are as good as ever: 3 rows",
        lambda: {"b.csv": b'id,text\n1,"Great, film\nI loved it"\n2,"so\n\nso"\n3,"ok, ok"\n'},
        both(done, scored(b=3)),
    ),
    Case(
        "semicolons",
        "not scored: the name says CSV",
        "semicolons, tabs and bars are found out, and said",
        lambda: {
            "a.csv": b"id;text\n1;good, so good\n2;bad\n",
            "b.csv": b"id\ttext\n1\tgood\n2\tbad\n",
            "c.csv": b"id|text\n1|good\n2|bad\n",
        },
        both(done, scored(a=2, b=2, c=2)),
    ),
    Case(
        "utf16",
        "not scored: the file is text in UTF-16",
        "found out by its byte order mark",
        lambda: {"b.csv": "id,text\n1,séance\n2,bad\n".encode("utf-16")},
        both(done, scored(b=2)),
    ),
    Case(
        "header",
        "3 more whose names are not shown",
        "the three names of the header",
        lambda: {"b.csv": b"Question ID,Kategorie / Class,The question (text)\n1,x,good one\n"},
        fails("Kategorie / Class", "Question ID", "The question (text)"),
        ("score", "--text-column", "review"),
    ),
    Case(
        "cp1252",
        "not a word about the encoding",
        "an error that says that it is likely cp1252, and what to type",
        lambda: {"reviews.csv": _CP1252},
        fails("row 1 (line 2): not UTF-8, likely cp1252", "--data.source.encoding cp1252"),
        retraining("cp1252"),
        _SECONDS,
    ),
    Case(
        "cp1252-typed",
        "there was no such setting",
        "trained, with the accents in the labels",
        lambda: {"reviews.csv": _CP1252},
        both(done, says(r"train: négatif \d+, positif \d+ ")),
        retraining("cp1252-typed", "--data.source.encoding", "cp1252"),
        _SECONDS,
    ),
    Case(
        "fields",
        "rows could not be decoded",
        "the reason first, with row and line",
        lambda: {"reviews.csv": labelled(["a", "b"]) + b"so good, so bad,a\n" * 5},
        fails("row 101 (line 102): 3 fields where the header has 2"),
        retraining("fields"),
        _SECONDS,
    ),
]
