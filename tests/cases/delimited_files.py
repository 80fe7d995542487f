"""Small delimited files that were misread without a word, or whose error pointed away from the cause."""

from tests.cases.case import Case, both, done, fails, scored

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
]
