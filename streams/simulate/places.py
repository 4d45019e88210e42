"""Places: the addresses and networks that simulated requests come from."""

from typing import Final

import numpy as np

from .accounts import Place

# All numbers are reserved ones (RFC 1918, RFC 6598, RFC 6996): no real network is accused or cleared.
HOMES: Final = (
    *((-8, "US"), (-6, "US"), (-5, "US"), (-5, "CA"), (-3, "BR"), (0, "GB"), (1, "DE")),
    *((1, "FR"), (2, "ZA"), (3, "TR"), (5, "IN"), (8, "SG"), (8, "PH"), (9, "JP")),
)
"""Hours east of UTC and country, once for each share of users."""

COMPANIES: Final = 400
CLOUDS: Final = ("US", "IE", "SG", "DE", "BR")
VPN_EXITS: Final = 48
CARRIER_EXITS: Final = 64


def home(dice: np.random.Generator, country: str) -> Place:
    """A household's address: nobody else has it."""
    a, b, c = dice.integers([16, 0, 1], [128, 256, 255]).tolist()
    return Place(f"10.{a}.{b}.{c}", 64512 + a % 40, country, "residential")


def mobile(dice: np.random.Generator, country: str) -> Place:
    """A phone network's address: many strangers share it, and each connection may get another."""
    network = sum(country.encode()) % 64
    return Place(f"100.{64 + network}.0.{dice.integers(CARRIER_EXITS)}", 64600 + network, country, "mobile")


def company(dice: np.random.Generator, country: str) -> Place:
    """A company's way out: its employees share it."""
    number = int(dice.integers(COMPANIES))
    return Place(f"172.16.{number // 200}.{number % 200}", 64700 + number % 90, country, "corporate")


def vpn(dice: np.random.Generator) -> Place:
    """An exit of a VPN service: strangers from everywhere."""
    exit_ = int(dice.integers(VPN_EXITS))
    return Place(f"192.168.77.{exit_}", 64800 + exit_ % 3, CLOUDS[exit_ % len(CLOUDS)], "vpn")


def server(dice: np.random.Generator) -> Place:
    """A rented server."""
    cloud, b, c = dice.integers([0, 0, 1], [len(CLOUDS), 256, 255]).tolist()
    return Place(f"10.{200 + cloud}.{b}.{c}", 64900 + cloud, CLOUDS[cloud], "datacenter")
