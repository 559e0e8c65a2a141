"""Debian's stock kernel and an initial RAM disk for the virtual machine, made once and kept in the user's cache.

There is no root file system to build: the guest mounts the host's own, read-only, over 9p.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dermstation-rig"
META_PACKAGE = "linux-image-amd64"
TOOLS = ("qemu-system-x86_64", "busybox", "cpio", "depmod", "modprobe", "dpkg-deb", "apt-get", "apt-cache")
_ROOT_MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "virtio_net", "af_packet")
_DEVICE_MODULES = ("evdev", "uvcvideo", "vhci_hcd", "xhci_pci", "usbserial", "ftdi_sio", "cdc_acm")
_INIT = Path(__file__).with_name("guest_init.sh")
_COMMAND_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestKernel:
    """The two files that QEMU starts from."""

    image: Path
    initrd: Path


def missing_tools() -> list[str]:
    """Return the programs that are not installed here."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def prepare(cache: Path = CACHE) -> GuestKernel:
    """Return the kernel and its RAM disk, fetching and making what is not in the cache.

    Raises:
        RuntimeError: A step failed, for example because there is no package mirror.
    """
    unpacked = _unpacked_kernel(cache)
    image = next((unpacked / "boot").glob("vmlinuz-*"))
    release = image.name.removeprefix("vmlinuz-")
    recipe = hashlib.sha256(_INIT.read_bytes() + repr((_ROOT_MODULES, _DEVICE_MODULES)).encode()).hexdigest()[:16]
    initrd = cache / f"initrd-{release}-{recipe}.gz"
    if not initrd.exists():
        _replace(initrd, _initrd(unpacked, release))
    return GuestKernel(image=image, initrd=initrd)


def _unpacked_kernel(cache: Path) -> Path:
    cached = sorted(cache.glob("linux-image-*/boot/vmlinuz-*"))
    if cached:
        return cached[-1].parents[1]
    cache.mkdir(parents=True, exist_ok=True)
    package = _newest_package()
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        _run("apt-get", "download", package, cwd=Path(folder))
        archive = next(Path(folder).glob("*.deb"))
        unpacked = Path(folder) / "unpacked"
        _run("dpkg-deb", "--extract", str(archive), str(unpacked))
        release = next((unpacked / "lib/modules").iterdir()).name
        _run("depmod", "--basedir", str(unpacked), release)
        unpacked.rename(cache / package)
    return cache / package


def _newest_package() -> str:
    """Return the package of the kernel itself, which the meta package depends on."""
    depends = [
        line.split()[-1] for line in _run("apt-cache", "depends", META_PACKAGE).splitlines() if "Depends:" in line
    ]
    if not depends:
        raise RuntimeError(f"{META_PACKAGE} is not in the package list; run apt-get update.")
    return depends[0]


def _initrd(unpacked: Path, release: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("bin", "dev", "proc", "sys", "host", "modules"):
            (root / name).mkdir()
        shutil.copy2(shutil.which("busybox") or "", root / "bin/busybox")
        shutil.copy2(_INIT, root / "init")
        (root / "init").chmod(0o755)
        for stage, modules in (("root", _ROOT_MODULES), ("devices", _DEVICE_MODULES)):
            paths = _with_dependencies(unpacked, release, modules)
            for path in paths:
                shutil.copy2(path, root / "modules")
            (root / stage).write_text("".join(f"/modules/{path.name}\n" for path in paths))
        names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*"))) + "\n"
        command = ["cpio", "--create", "--format=newc", "--quiet"]
        packed = subprocess.run(command, cwd=root, input=names.encode(), capture_output=True, check=True)
        return gzip.compress(packed.stdout, compresslevel=1)


def _with_dependencies(unpacked: Path, release: str, modules: tuple[str, ...]) -> list[Path]:
    """Return the modules' files, each behind those that it needs."""
    found: dict[Path, None] = {}
    for module in modules:
        shown = _run(
            "modprobe",
            f"--dirname={unpacked}",
            f"--set-version={release}",
            "--show-depends",
            "--ignore-install",
            module,
        )
        found |= {Path(line.split()[1]): None for line in shown.splitlines() if line.startswith("insmod")}
    return list(found)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(content)
    temporary.rename(path)


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_COMMAND_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    if missing := missing_tools():
        sys.exit(f"not installed: {', '.join(missing)}; see tests/rig/debian-packages.txt")
    sys.stdout.write(f"{prepare().image}\n")
