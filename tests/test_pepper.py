"""Names by keyed hash."""

from gateway.pepper import Pepper


def test_equal_values_have_equal_names_in_every_replica_and_no_others() -> None:
    here, there, elsewhere = Pepper("a secret of ours"), Pepper("a secret of ours"), Pepper("another secret..")
    assert here.name("key", "sk-1") == there.name("key", "sk-1")
    names = [
        here.name("key", "sk-1"),
        here.name("key", "sk-2"),
        here.name("payment", "sk-1"),
        elsewhere.name("key", "sk-1"),
    ]
    assert len(set(names)) == 4
    assert all(len(name) == 32 and "sk-1" not in name for name in names)


def test_while_a_secret_is_rotated_both_names_are_known() -> None:
    old, new = Pepper("the old secret.."), Pepper("the new secret..", previous="the old secret..")
    assert new.names("key", "sk-1") == (new.name("key", "sk-1"), old.name("key", "sk-1"))
    assert old.names("key", "sk-1") == (old.name("key", "sk-1"),)


def test_a_long_secret_counts_to_its_last_letter_and_sketches_have_a_key_of_their_own() -> None:
    one, other = Pepper("x" * 100 + "a"), Pepper("x" * 100 + "b")
    assert one.name("key", "sk") != other.name("key", "sk")
    assert one.sketch_key != other.sketch_key
    assert len(one.sketch_key) == 64


def test_any_text_will_do() -> None:
    assert len(Pepper("a secret of ours").name("key", "\ud83d" + "é" * 10_000)) == 32
