"""Define the columns of the sample data: name, table and kind of values."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from bucketwheel.sample.values import GENERATORS, Generator

KEY = "Customer_User_id"

# Two of three columns are codes or flags, and any fifteen consecutive columns include numbers, dates and text, like
# the attribute tables of the source systems.
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
# Columns without a dictionary: it would save no space, and writers such as Spark would drop it.
_WITHOUT_DICTIONARY = frozenset(
    {"key", "income", "timestamp", "zip4", "block", "decimal", "boolean", "email", "maid", "household"}
)


@dataclass(frozen=True)
class Column:
    """A source column: its name, the table of its mapping, and the generator of its values."""

    name: str
    table: str | None
    generate: Generator
    dictionary: bool


def wide_columns(tables: int, columns: int, seed: int) -> tuple[Column, ...]:
    """Return the columns of the wide snapshot: the key, ``columns`` per table, and three unmapped ones."""
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
    """Return the columns of the narrow addressable ids, with the same key as the wide snapshot."""
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
    """Return the name of table ``position``: IBE_01, IBE_02, IBE_04, MIACS_01, IBE_05, …; IBE_03 is skipped."""
    block, offset = divmod(position, 4)
    if offset == 3:
        return f"MIACS_{block + 1:02d}"
    number = block * 3 + offset + 1
    return f"IBE_{number + (number > 2):02d}"


def _column(name: str, table: str | None, kind: str, seed: int, number: int) -> Column:
    profile = np.random.default_rng((seed, number))
    return Column(name, table, GENERATORS[kind](profile, seed), kind not in _WITHOUT_DICTIONARY)
