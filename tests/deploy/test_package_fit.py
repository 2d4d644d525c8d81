"""`package` refuses archives of other platforms, and names the file and the fix."""

from __future__ import annotations

import platform
import sys
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from bucketwheel import api, cli
from bucketwheel.packaging.binaries import Binary, read_binary
from bucketwheel.packaging.target import Target
from deploy_support import ROOT, configuration
from forged_archives import AARCH64, I386, JAVA_CLASS, MACH_O, MACH_O_FAT, SITE, WINDOWS, elf, file, forged, special
from project import Result

Refused = Callable[..., Result]
ON_ARM = ("--set", "deploy.platform=emr-serverless", "--set", "emr_serverless.architecture=ARM64")


def wheel(*tags: str) -> bytes:
    return ("Wheel-Version: 1.0\n" + "".join(f"Tag: {tag}\n" for tag in tags)).encode()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """An archive with little but a link to the Python of the platform; its files are checked before its code."""
    with tarfile.open(tmp_path / "tiny.tar.gz", "w:gz") as written:
        written.addfile(special("bin/python", tarfile.SYMTYPE, "/usr/bin/python3.11")[0])
    return tmp_path / "tiny.tar.gz"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], source: Path, tmp_path: Path) -> Refused:
    """Run `package` with an archive on the example configuration of prod."""

    def package(archive: Path, *words: str) -> Result:
        code = 0
        given = ("--source", str(source), "--archive", str(archive), "--to", str(tmp_path / "package"))
        try:
            cli.main(["package", *given, "--env", "prod", "--conf", str(ROOT / "conf"), *words])
        except SystemExit as ended:
            code = int(ended.code or 0)
        shown = capsys.readouterr()
        return Result(code, shown.out, shown.err)

    return package


KINDS = {
    "other machine": (file(f"{SITE}/a.so", elf(AARCH64)), "a.so: is for Linux aarch64"),
    "32-bit": (file(f"{SITE}/a.so", elf(I386, bits=1)), "a.so: is for Linux i386, 32-bit"),
    "newer glibc": (file(f"{SITE}/a.so", elf(needs="GLIBC_2.38")), "a.so: needs glibc 2.38"),
    "newer linker": (file(f"{SITE}/a.so", elf(needs="GLIBC_ABI_DT_RELR")), "a.so: needs glibc 2.36"),
    "truncated": (file(f"{SITE}/a.so", elf()[:-10]), "a.so: is a truncated or corrupt Linux binary"),
    "macOS": (file(f"{SITE}/a.cpython-311-darwin.so", MACH_O), "a.cpython-311-darwin.so: is for macOS"),
    "macOS, two machines": (file(f"{SITE}/a.dylib", MACH_O_FAT), "a.dylib: is for macOS"),
    "Windows": (file(f"{SITE}/a.pyd", WINDOWS), "a.pyd: is for Windows"),
    "other Python": (
        file(f"{SITE}/a.cpython-312-x86_64-linux-gnu.so", elf()),
        "a.cpython-312-x86_64-linux-gnu.so: is for Python 3.12",
    ),
    "directory of another Python": (
        file("lib/python3.12/site-packages/a.py", b""),
        "lib/python3.12: is of Python 3.12, not 3.11",
    ),
    "macOS wheel": (
        file(f"{SITE}/a-1.dist-info/WHEEL", wheel("cp311-cp311-macosx_14_0_arm64")),
        "a-1.dist-info/WHEEL: is of a wheel for cp311-cp311-macosx_14_0_arm64",
    ),
    "ARM wheel": (
        file(f"{SITE}/a-1.dist-info/WHEEL", wheel("cp311-cp311-manylinux_2_17_aarch64")),
        "WHEEL: is of a wheel for cp311-cp311-manylinux_2_17_aarch64",
    ),
    "absolute name": (file("/etc/passwd", b""), "/etc/passwd: points outside of the archive"),
    "name outside": (file("../outside", b""), "../outside: points outside of the archive"),
    "absolute link": (special("lib/a", tarfile.SYMTYPE, "/etc/passwd"), "lib/a: links to /etc/passwd, outside"),
    "relative link": (special("lib/a", tarfile.SYMTYPE, "../../b"), "lib/a: links to ../../b, outside"),
    "hard link": (special("lib/a", tarfile.LNKTYPE, "../b"), "lib/a: is a hard link to ../b, which is not in"),
    "device": (special("lib/a", tarfile.CHRTYPE), "lib/a: is a device, a pipe or another special file"),
    "pipe": (special("lib/a", tarfile.FIFOTYPE), "lib/a: is a device, a pipe or another special file"),
    "Python elsewhere": (
        special("bin/python", tarfile.SYMTYPE, "/opt/homebrew/bin/python3.11"),
        "bin/python: links to /opt/homebrew/bin/python3.11; the Python of Glue is /usr/bin/python3.11",
    ),
    "Python nowhere": (special("bin/python", tarfile.SYMTYPE, "python4"), "bin/python: links to python4, which"),
    "path elsewhere": (
        file(f"{SITE}/a.pth", b"/Users/me/checkout/app\n"),
        "a.pth: adds /Users/me/checkout/app to the path of Python, outside of the archive",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_archive_of_other_platform_is_refused(kind: str, run: Refused, tiny: Path, tmp_path: Path) -> None:
    member, message = KINDS[kind]
    refused = run(forged(tiny, tmp_path / "given.tar.gz", member))
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "given.tar.gz: does not fit Glue (Linux x86_64, Python 3.11, glibc 2.34):\n" in refused.stderr
    assert message in refused.stderr
    assert "with --without-docker, or with Docker for linux/amd64 by leaving out --archive" in refused.stderr
    assert not (tmp_path / "package").exists()


def test_member_below_link_is_refused(run: Refused, tiny: Path, tmp_path: Path) -> None:
    link, below = special("lib/a", tarfile.SYMTYPE, "."), file("lib/a/b", b"")
    refused = run(forged(tiny, tmp_path / "given.tar.gz", link, below))
    assert "lib/a/b: is below lib/a, which is a link" in refused.stderr


def test_many_wrong_files_are_counted(run: Refused, tiny: Path, tmp_path: Path) -> None:
    libraries = [file(f"{SITE}/{number}.so", elf(AARCH64)) for number in range(9)]
    refused = run(forged(tiny, tmp_path / "given.tar.gz", *libraries))
    assert refused.stderr.count("is for Linux aarch64") == 5
    assert "… and 4 more" in refused.stderr
    assert "ARM64" not in refused.stderr


def test_archive_for_x86_64_is_refused_on_arm(run: Refused, tiny: Path, tmp_path: Path) -> None:
    refused = run(forged(tiny, tmp_path / "given.tar.gz", file(f"{SITE}/a.so", elf())), *ON_ARM)
    assert refused.exit_code == 2
    assert "does not fit EMR Serverless (Linux aarch64, Python 3.11, glibc 2.34)" in refused.stderr
    assert "with Docker for linux/arm64" in refused.stderr
    assert "or set emr_serverless.architecture to X86_64" in refused.stderr


def test_fitting_archive_is_accepted(source: Path, given: Path, tmp_path: Path) -> None:
    """Programs for Windows in pip, Java classes, relocatable objects and a Python of its own do no harm."""
    members = [
        file(f"{SITE}/a.cpython-311-aarch64-linux-gnu.so", elf(AARCH64, "GLIBC_2.34")),
        file(f"{SITE}/pip/_vendor/distlib/t64.exe", WINDOWS),
        file(f"{SITE}/a.class", JAVA_CLASS),
        file(f"{SITE}/kernel.o", elf(247, kind=1)),
        file(f"{SITE}/a-1.dist-info/WHEEL", wheel("cp39-cp39-win_amd64", "cp38-abi3-manylinux2014_aarch64")),
        file(f"{SITE}/b-1.dist-info/WHEEL", wheel("py2.py3-none-any")),
        file(f"{SITE}/a.pth", b"import site\n"),
        file("bin/python3.11", elf(AARCH64)),
        special("bin/python", tarfile.SYMTYPE, "/home/hadoop/environment/bin/python3.11"),
        special("lib/a", tarfile.LNKTYPE, "pyvenv.cfg"),
        file("pyvenv.cfg", b"home = /usr/bin\n"),
    ]
    members.sort(key=lambda member: member[0].islnk())
    archive = forged(given, tmp_path / "given.tar.gz", *members)
    config = configuration(deploy__platform="emr-serverless", emr_serverless__architecture="ARM64")
    packed = api.package(config, tmp_path / "package", source, archive)
    assert packed.machine == "aarch64"
    with tarfile.open(packed.directory / "environment.tar.gz") as opened:
        # A hard link may come before its file once members are sorted, so it becomes a file.
        link = opened.extractfile("lib/a")
        assert link is not None
        assert link.read() == b"home = /usr/bin\n"


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux binaries")
def test_real_binaries_are_read() -> None:
    (library,) = Path(np.__file__).parent.rglob("_multiarray_umath*.so")
    with library.open("rb") as opened:
        binary = read_binary(opened)
    assert binary is not None
    assert (binary.system, binary.machine) == ("Linux", platform.machine())
    assert 14 <= binary.glibc <= 34


def test_other_files_are_no_binaries() -> None:
    assert [read_binary(BytesIO(content)) for content in (b"", b"MZ", b"# text", JAVA_CLASS)] == [None] * 4
    assert read_binary(BytesIO(MACH_O)) == Binary("macOS")


@pytest.mark.parametrize(
    ("tag", "runs"),
    [
        ("py3-none-any", True),
        ("py2.py3-none-any", True),
        ("cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", True),
        ("cp36-abi3-manylinux2010_x86_64", True),
        ("cp311-cp311-linux_x86_64", True),
        ("cp311-cp311-manylinux_2_34_x86_64", True),
        ("cp311-cp311-manylinux_2_35_x86_64", False),
        ("cp311-cp311-musllinux_1_2_x86_64", False),
        ("cp311-cp311-win_amd64", False),
        ("cp310-cp310-manylinux_2_17_x86_64", False),
        ("cp312-abi3-manylinux_2_17_x86_64", False),
        ("py312-none-any", False),
        ("py2-none-any", False),
        ("nonsense", False),
    ],
)
def test_wheel_runs_on_glue_by_its_tag(tag: str, runs: bool) -> None:
    assert Target("Glue", "x86_64").runs_wheel(tag) is runs


def test_archive_that_unpacks_without_end_is_refused(run: Refused, tiny: Path, tmp_path: Path) -> None:
    zeros = file("lib/a", b"\0" * 3_000_000)
    refused = run(forged(tiny, tmp_path / "given.tar.gz", zeros), "--set", "deploy.archive_limit=100kB")
    assert refused.exit_code == 2
    assert (
        "given.tar.gz: unpacks to more than 2,000,000 bytes, the limit for archives of up to 100,000"
        in refused.stderr
    )
    assert not (tmp_path / "package").exists()


def test_repeated_member_with_link_is_refused(run: Refused, tiny: Path, tmp_path: Path) -> None:
    """Unpacking leaves the last member of a name; the files below a link that came first would be outside."""
    members = [special("lib/a", tarfile.SYMTYPE, "/etc"), special("lib/a", tarfile.SYMTYPE, "../../etc")]
    refused = run(forged(tiny, tmp_path / "given.tar.gz", file("lib/a", b""), *members))
    assert "lib/a: links to ../../etc, outside of the archive" in refused.stderr
