"""Builds the native CPU kernel where a compiler and PyTorch are at hand; without them the package installs just the same.

PyTorch is looked for in the environment that is installed into, also from pip's isolated build: asking pip for it as a build
requirement would fetch it a second time, with gigabytes of CUDA packages on Linux.
"""

import importlib.util
import os
import re
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = "src/dropkit/kernels/native"
LOST = "dropkit: {}; masks will be made by the reference kernel, in plain PyTorch, which is slower."


def torch_folder() -> Path | None:
    """Return the folder of the installed PyTorch, without importing it."""
    found = importlib.util.find_spec("torch")
    places = [Path(found.origin).parent] if found and found.origin else []
    places += [Path(sysconfig.get_path(kind)) / "torch" for kind in ("platlib", "purelib")]
    return next((place for place in places if (place / "include").is_dir()), None)


def version_of(torch: Path) -> str:
    """Return PyTorch's version as a part of a name, such as 2_13_0."""
    text = (torch / "version.py").read_text(encoding="utf-8")
    found = re.search(r"__version__ = ['\"]([0-9.]+)", text)
    return found.group(1).strip(".").replace(".", "_") if found else "unknown"


def extensions(torch: Path) -> list[Extension]:
    """Return the kernel, bound by PyTorch's stable ABI, and its derivatives, which bear the version that they belong to."""
    derivatives = f"_autograd_{version_of(torch)}"
    common = {
        "include_dirs": [str(torch / "include"), str(torch / "include" / "torch" / "csrc" / "api" / "include")],
        "library_dirs": [str(torch / "lib")], "libraries": ["torch", "torch_cpu", "c10"], "language": "c++",
    }
    # Contracting a product and a sum would round once where the contract rounds twice.
    # No one reads errno or floating-point traps here, and minding them keeps loops with roots from being vectorised.
    flags = ["-O3", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-g0"]
    headers = [str(file) for file in sorted(Path(NATIVE).rglob("*.h"))]
    return [
        Extension("dropkit.kernels.native._native", [str(file) for file in sorted(Path(NATIVE, "csrc").glob("*.cpp"))],
                  depends=headers, py_limited_api=True, extra_compile_args=["-std=c++17", *flags],
                  define_macros=[("TORCH_TARGET_VERSION", "0x020a000000000000"), ("Py_LIMITED_API", "0x030b0000")], **common),
        Extension(f"dropkit.kernels.native.{derivatives}", [f"{NATIVE}/autograd/autograd.cpp"], depends=headers,
                  extra_compile_args=["-std=c++20", *flags], define_macros=[("TORCH_EXTENSION_NAME", derivatives)], **common),
    ]


class BuildWherePossible(build_ext):
    """Builds what can be built and tells once what cannot."""

    def run(self) -> None:
        """Build, or say why not."""
        try:
            super().run()
        except Exception as error:
            self._tell(error)

    def build_extension(self, ext: Extension) -> None:
        """Build one extension; a failed one is left out."""
        try:
            super().build_extension(ext)
        except Exception as error:
            self._tell(error)

    def copy_extensions_to_source(self) -> None:
        """Copy for an editable install what was built."""
        built = [ext for ext in self.extensions if os.path.exists(self.get_ext_fullpath(ext.name))
                 or os.path.exists(os.path.join(self.build_lib, self.get_ext_filename(ext.name)))]
        self.extensions, everything = built, self.extensions
        super().copy_extensions_to_source()
        self.extensions = everything

    def get_outputs(self) -> list[str]:
        """List the files that exist."""
        return [file for file in super().get_outputs() if os.path.exists(file)]

    def _tell(self, error: Exception) -> None:
        print(LOST.format(f"the native kernel could not be compiled ({error})"), file=sys.stderr)


TORCH = None if os.environ.get("DROPKIT_NO_NATIVE") else torch_folder()
if TORCH is None:
    print(LOST.format("PyTorch was not found, so the native kernel was not compiled (install torch first)"), file=sys.stderr)
setup(ext_modules=extensions(TORCH) if TORCH else [], cmdclass={"build_ext": BuildWherePossible})
