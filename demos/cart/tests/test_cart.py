from cart import total


def test_a_small_order_pays_for_its_delivery() -> None:
    assert total([(1_999, 1)]) == 2_449


def test_an_order_of_twenty_is_delivered_free() -> None:
    assert total([(1_000, 2)]) == 2_000


def test_from_one_hundred_on_there_is_a_discount() -> None:
    assert total([(2_500, 4)]) == 9_000
