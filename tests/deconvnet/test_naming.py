"""Things that are called alike are told apart by a number."""

from deconvnet.naming import distinct


def test_each_name_is_given_once_and_the_first_keeps_it() -> None:
    assert distinct(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]
    assert distinct(["a", "a (2)", "a"]) == ["a", "a (2)", "a (3)"]
    assert distinct(["a", "a", "a (2)"]) == ["a", "a (2)", "a (2) (2)"]


def test_many_of_one_name_take_no_longer_than_others() -> None:
    assert distinct(["a"] * 50_000)[-1] == "a (50000)"
