"""Generate the values of the sample data as Arrow arrays, with skewed frequencies and NULLs.

Each column of a file has its own random stream, so that the values do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Numbers = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]
Random = np.random.Generator
Generator = Callable[[Random, Numbers], pa.Array]

_DRAWS = 1 << 16
_GOLDEN = 0x9E3779B97F4A7C15
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_CHECK_LETTERS = np.frombuffer(b"0123456789ABCDEFGHJKLMNPQRSTUVWXYZ", np.uint8)
_EPOCH_1990, _EPOCH_2025 = 7_305, 20_370

_CODE_SIZES = (2, 3, 5, 9, 12, 17, 26, 52, 75, 100, 150, 210, 260, 300, 360, 420, 460, 500)
_NULL_SHARES = (0.0, 0.0, 0.0, 0.01, 0.03, 0.12, 0.3, 0.6)


def _null_mask(rng: Random, count: int, share: float) -> npt.NDArray[np.bool_]:
    return _draws(rng, count) < int(share * _DRAWS)


def _draws(rng: Random, count: int) -> npt.NDArray[np.uint16]:
    return rng.integers(0, _DRAWS, count, dtype=np.uint16)


def _validity(nulls_at: npt.NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(~nulls_at, bitorder="little"))


def _mix(numbers: Numbers, salt: int) -> Numbers:
    # The finalizer of SplitMix64 is a permutation of 64-bit numbers: it gives unique, unordered keys without a set.
    mixed = numbers + np.uint64(salt * _GOLDEN % (1 << 64))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _hex(numbers: Numbers) -> Bytes:
    octets = np.ascontiguousarray(numbers, ">u8").view(np.uint8).reshape(len(numbers), -1)
    return np.stack((_HEX[octets >> 4], _HEX[octets & 15]), axis=-1).reshape(len(numbers), -1)


def _digits(numbers: npt.NDArray[np.uint32], width: int) -> Bytes:
    powers = 10 ** np.arange(width - 1, -1, -1, dtype=np.uint32)
    return (numbers[:, None] // powers % 10 + 48).astype(np.uint8)


def _text(parts: Sequence[Bytes | bytes], count: int, nulls_at: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Return an Arrow string array that joins columns of characters of fixed width."""
    blocks = [np.tile(np.frombuffer(p, np.uint8), (count, 1)) if isinstance(p, bytes) else p for p in parts]
    characters = np.ascontiguousarray(np.concatenate(blocks, axis=1))
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(characters.shape[1])
    validity = None if nulls_at is None else _validity(nulls_at)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(characters), validity)


def _key(_profile: Random, seed: int) -> Generator:
    def generate(_rng: Random, rows: Numbers) -> pa.Array:
        mixed = _mix(rows, seed)
        letters = _CHECK_LETTERS[(mixed % np.uint64(len(_CHECK_LETTERS))).astype(np.intp)]
        digits = _hex(mixed)
        return _text((b"CU", letters[:, None], digits - np.uint8(32) * (digits > 57)), len(rows))

    return generate


def _email(_profile: Random, seed: int) -> Generator:
    def generate(rng: Random, rows: Numbers) -> pa.Array:
        parts = [_hex(_mix(rows, seed + 101 + i)) for i in range(4)]
        return _text(parts, len(rows), _null_mask(rng, len(rows), 0.2))

    return generate


def _maid(_profile: Random, seed: int) -> Generator:
    def generate(rng: Random, rows: Numbers) -> pa.Array:
        head, tail = _hex(_mix(rows, seed + 201)), _hex(_mix(rows, seed + 202))
        parts = (head[:, :8], b"-", head[:, 8:12], b"-", head[:, 12:], b"-", tail[:, :4], b"-", tail[:, 4:])
        return _text(parts, len(rows), _null_mask(rng, len(rows), 0.45))

    return generate


def _household(_profile: Random, seed: int) -> Generator:
    return lambda _rng, rows: pa.array((_mix(rows // np.uint64(2), seed + 301) >> np.uint64(8)).astype(np.int64))


def _zip4(profile: Random, _seed: int) -> Generator:
    share = profile.choice(_NULL_SHARES[:5])

    def generate(rng: Random, rows: Numbers) -> pa.Array:
        count = len(rows)
        area = _digits(rng.integers(501, 99_951, count, dtype=np.uint32), 5)
        addon = _digits(rng.integers(0, 10_000, count, dtype=np.uint32), 4)
        return _text((area, b"-", addon), count, _null_mask(rng, count, share))

    return generate


def _block(profile: Random, _seed: int) -> Generator:
    share = profile.choice(_NULL_SHARES[:5])

    def generate(rng: Random, rows: Numbers) -> pa.Array:
        count = len(rows)
        county = _digits(rng.integers(1_001, 56_046, count, dtype=np.uint32), 5)
        tract = _digits(rng.integers(100, 999_999, count, dtype=np.uint32), 6)
        return _text((county, tract), count, _null_mask(rng, count, share))

    return generate


def _skewed(values: Sequence[str], profile: Random, nulls: float) -> Generator:
    """Return a generator of few distinct values with Zipf-like frequencies and NULLs; it uses one table look-up."""
    weights = 1.0 / np.arange(1, len(values) + 1) ** profile.uniform(0.5, 1.3)
    shares = np.concatenate(([nulls], weights * (1 - nulls) / weights.sum()))
    edges = np.concatenate(([0], np.cumsum(shares) * _DRAWS)).round().astype(np.int64)
    lookup = np.repeat(np.arange(-1, len(values), dtype=np.int16), np.diff(edges))
    dictionary = pa.array(list(profile.permutation(np.array(values, dtype=object))), pa.string())

    def generate(rng: Random, rows: Numbers) -> pa.Array:
        indices = lookup[_draws(rng, len(rows))]
        return pa.DictionaryArray.from_arrays(pa.array(indices, mask=indices < 0), dictionary)

    return generate


def _code(profile: Random, _seed: int) -> Generator:
    size = int(profile.choice(_CODE_SIZES))
    style = ("{:0{w}d}", "A{:0{w}d}", "{:0{w}X}")[int(profile.integers(3))]
    values = [style.format(n, w=len(str(size))) for n in range(size)]
    return _skewed(values, profile, float(profile.choice(_NULL_SHARES)))


def _flag(profile: Random, _seed: int) -> Generator:
    return _skewed(("Y", "N"), profile, float(profile.choice(_NULL_SHARES)))


def _name(profile: Random, _seed: int) -> Generator:
    starts = (
        "Al",
        "Bar",
        "Cor",
        "Dun",
        "El",
        "Fitz",
        "Gar",
        "Hol",
        "Kow",
        "Lan",
        "Mc",
        "Nú",
        "Pe",
        "Sán",
        "Wil",
    )
    ends = (
        "bert",
        "cia",
        "dez",
        "ello",
        "field",
        "güe",
        "ham",
        "ier",
        "kins",
        "ley",
        "nova",
        "rson",
        "ton",
        "vić",
    )
    values = [a + b + c for a, b, c in product(starts, ("", "an", "en", "er", "in"), ends)]
    return _skewed(values, profile, float(profile.choice(_NULL_SHARES[:5])))


def _list(profile: Random, _seed: int) -> Generator:
    pick = _skewed(("Books", "Cooking", "Cycling", "Gardening", "Golf", "Music", "Travel", "Wine"), profile, 0.0)

    def generate(rng: Random, rows: Numbers) -> pa.Array:
        nulls_at = _null_mask(rng, len(rows), 0.3)
        # A NULL list must also be empty: older versions of pyarrow cannot write it otherwise.
        lengths = np.where(nulls_at, 0, np.minimum(_draws(rng, len(rows)) >> 13, 5) // 2)
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
        values = pick(rng, np.zeros(offsets[-1], np.uint64)).cast(pa.string())
        return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(nulls_at))

    return generate


def _numeric(draw: Callable[[Random, int], npt.NDArray[np.generic]], kind: pa.DataType) -> Callable[..., Generator]:
    def factory(profile: Random, _seed: int) -> Generator:
        share = float(profile.choice(_NULL_SHARES[:-2]))

        def generate(rng: Random, rows: Numbers) -> pa.Array:
            values = draw(rng, len(rows))
            return pa.array(values, mask=_null_mask(rng, len(rows), share)).view(kind)

        return generate

    return factory


def _decimal(profile: Random, _seed: int) -> Generator:
    share = float(profile.choice(_NULL_SHARES[:-2]))

    def generate(rng: Random, rows: Numbers) -> pa.Array:
        words = np.zeros((len(rows), 2), np.int64)
        words[:, 0] = rng.lognormal(8.5, 1.2, len(rows)).clip(0, 99_999_999)
        buffers = [_validity(_null_mask(rng, len(rows), share)), pa.py_buffer(words)]
        return pa.Array.from_buffers(pa.decimal128(10, 2), len(rows), buffers)

    return generate


_MICROSECONDS_PER_DAY = 86_400_000_000
GENERATORS: dict[str, Callable[[Random, int], Generator]] = {
    "key": _key,
    "email": _email,
    "maid": _maid,
    "household": _household,
    "zip4": _zip4,
    "block": _block,
    "code": _code,
    "flag": _flag,
    "name": _name,
    "list": _list,
    "decimal": _decimal,
    "age": _numeric(lambda r, n: r.normal(47, 17, n).clip(18, 99).astype(np.int16), pa.int16()),
    "score": _numeric(lambda r, n: r.gamma(2.0, 900, n).clip(0, 9_999).astype(np.int32), pa.int32()),
    "count": _numeric(lambda r, n: r.lognormal(2.5, 1.4, n).astype(np.int64), pa.int64()),
    "income": _numeric(lambda r, n: r.lognormal(11, 0.6, n).round(2), pa.float64()),
    "boolean": _numeric(lambda r, n: _draws(r, n) < 40_000, pa.bool_()),
    "date": _numeric(lambda r, n: r.integers(_EPOCH_1990, _EPOCH_2025, n, dtype=np.int32), pa.date32()),
    "timestamp": _numeric(
        lambda r, n: (
            r.integers(19_300, _EPOCH_2025, n) * _MICROSECONDS_PER_DAY + r.integers(0, _MICROSECONDS_PER_DAY, n)
        ),
        pa.timestamp("us"),
    ),
}
