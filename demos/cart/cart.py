"""The total of a shopping cart, in cents."""

from __future__ import annotations

DISCOUNT_FROM = 10_000
DISCOUNT_PERCENT = 10
DELIVERY_BELOW = 2_000
DELIVERY = 450


def subtotal(lines: list[tuple[int, int]]) -> int:
    """Return the sum of ``(price, count)`` lines."""
    return sum(price * count for price, count in lines)


def total(lines: list[tuple[int, int]]) -> int:
    """Return what a customer pays: the sum, less the discount of a large order, and the delivery of a small one."""
    amount = subtotal(lines)
    if amount > DISCOUNT_FROM:
        amount -= amount * DISCOUNT_PERCENT // 100
    if amount < DELIVERY_BELOW:
        amount += DELIVERY
    return amount
