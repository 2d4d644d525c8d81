"""The columns of the sample data: their names, the table each goes to, the kind of values it holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from bucketwheel.sample.values import MAKERS, Maker

KEY = "Customer_User_id"

# Two columns in three are codes or flags, and any fifteen in a row still hold numbers, dates and text: that
# is what the attribute tables of the source systems look like.
_KINDS = (
    *("age", "code", "flag", "income", "code", "date", "code", "code", "score", "code", "flag"),
    *("code", "zip4", "code", "block", "code", "code", "count", "code", "flag", "name", "code"),
    *("timestamp", "code", "income", "decimal", "code", "boolean", "code", "flag", "code", "code"),
)
_LIST_POSITION = 13
_LABELS = {
    "age": ("Age", "Age_Second_Adult"),
    "block": ("Census_Block", "Delivery_Point"),
    "boolean": ("Is_Verified", "Has_Children"),
    "code": (
        *("Occupation_Code", "Education_Level", "Dwelling_Type", "Marital_Status", "Vehicle_Make"),
        *("Income_Band", "Language", "Credit_Range", "Net_Worth_Code", "State", "Lifestage_Segment"),
        *("Fuel_Type", "Channel"),
    ),
    "count": ("Transactions_24M", "Web_Visits"),
    "date": ("Move_In_Date", "First_Purchase_Date"),
    "decimal": ("Average_Spend", "Donation_Amount"),
    "flag": ("Homeowner_Flag", "Pet_Owner", "Mail_Responder", "Traveler_YN"),
    "income": ("Income_Estimate", "Home_Value"),
    "list": ("Interests",),
    "name": ("Last_Name", "Last_Name_Second_Adult"),
    "score": ("Propensity_Score", "Rank"),
    "timestamp": ("Updated_At", "Last_Seen_At"),
    "zip4": ("Zip4", "Mail_Zip4"),
}
# Writers such as Spark drop a dictionary that doesn't pay; trying one here would only cost time.
_PLAIN = frozenset(
    {"key", "income", "timestamp", "zip4", "block", "decimal", "boolean", "email", "maid", "household"}
)


@dataclass(frozen=True)
class Column:
    """One source column: its name, the table it is mapped to, and how its values are made."""

    name: str
    table: str | None
    make: Maker
    dictionary: bool


def wide_columns(tables: int, columns: int, seed: int) -> tuple[Column, ...]:
    """Describe the wide snapshot: the key, ``columns`` mapped columns a table, and three unmapped ones."""
    described = [_column(KEY, None, "key", seed, 0)]
    seen: Counter[str] = Counter()
    for position in range(tables * columns):
        table = table_name(position // columns)
        kind = "list" if position == _LIST_POSITION else _KINDS[position % len(_KINDS)]
        labels = _LABELS[kind]
        if table.startswith("IBE"):
            name = f"IBE{8688 + position}_{labels[seen[kind] % len(labels)]}"
        else:
            name = f"{table}_{position % columns + 1:03d}"
        seen[kind] += 1
        described.append(_column(name, table, kind, seed, position + 1))
    unmapped = (("Record_Source", "code"), ("Batch_Number", "score"), ("Load_Date", "date"))
    for offset, (name, kind) in enumerate(unmapped, start=len(described)):
        described.append(_column(name, None, kind, seed, offset))
    return tuple(described)


def addressable_columns(seed: int) -> tuple[Column, ...]:
    """Describe the narrow table of addressable ids, keyed like the wide snapshot."""
    named = (
        (KEY, "key"),
        ("Hashed_Email_SHA256", "email"),
        ("Mobile_Ad_ID", "maid"),
        ("Household_ID", "household"),
        ("Email_Opt_In", "flag"),
        ("Do_Not_Mail", "flag"),
        ("First_Seen_Date", "date"),
        ("Last_Seen_Date", "date"),
    )
    return tuple(_column(name, None, kind, seed, 1_000_000 + i) for i, (name, kind) in enumerate(named))


def table_name(position: int) -> str:
    """Name the table at ``position``: IBE_01, IBE_02, IBE_04, MIACS_01, IBE_05, …; there is no IBE_03."""
    block, place = divmod(position, 4)
    if place == 3:
        return f"MIACS_{block + 1:02d}"
    number = block * 3 + place + 1
    return f"IBE_{number + (number > 2):02d}"


def _column(name: str, table: str | None, kind: str, seed: int, number: int) -> Column:
    profile = np.random.default_rng((seed, number))
    return Column(name, table, MAKERS[kind](profile, seed), kind not in _PLAIN)
