import pytest

from ingest.idempotency import agree, parse_header
from ingest.record import InvalidRecord


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("order-42", "order-42"),
        ("  order-42\t", "order-42"),
        ("two words", "two words"),
        ('"order-42"', "order-42"),
        ('" kept "', " kept "),
        (r'"say \"hi\" \\ twice"', r'say "hi" \ twice'),
        ("a" * 255, "a" * 255),
        ('it"s', 'it"s'),
    ],
)
def test_a_key_is_taken_bare_or_as_a_quoted_string(header: str, key: str) -> None:
    assert parse_header([header]) == key


def test_no_header_is_no_key() -> None:
    assert parse_header([]) is None


@pytest.mark.parametrize(
    "values",
    [
        [""],
        ['""'],
        ['"open'],
        ['"a" b"'],
        [r'"bad \escape"'],
        ["a" * 256],
        ["\u00fcber"],
        ["tab\tinside"],
        ["one", "one"],
        ["one", "two"],
    ],
)
def test_any_other_header_is_refused_by_its_name(values: list[str]) -> None:
    with pytest.raises(InvalidRecord) as caught:
        parse_header(values)
    assert set(caught.value.details) == {"Idempotency-Key"}


def test_a_batch_leaves_room_for_the_index() -> None:
    assert parse_header(["a" * 250], longest=250) == "a" * 250
    with pytest.raises(InvalidRecord):
        parse_header(["a" * 251], longest=250)


@pytest.mark.parametrize(
    ("in_body", "in_header", "key"), [(None, None, None), ("a", None, "a"), (None, "a", "a"), ("a", "a", "a")]
)
def test_body_and_header_may_each_name_the_key(in_body: str | None, in_header: str | None, key: str | None) -> None:
    assert agree(in_body, in_header) == key


def test_two_different_keys_are_refused() -> None:
    with pytest.raises(InvalidRecord, match="Idempotency-Key"):
        agree("a", "b")
