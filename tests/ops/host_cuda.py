"""A CuPy played by the host: kernels.cu compiled by g++, and as much of CuPy as its twins use.

What it proves is the arithmetic of the kernels, how they are launched and what they are given:
everything but the compiler, the driver and the chip. A block's threads take turns, forwards or
backwards, and whoever reads what was not waited for is found out by the difference.
"""

import ctypes
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy

HERE = Path(__file__).parent / "cuda_on_host"
KERNEL = re.compile(r'extern "C" __global__ void (\w+)\((.*?)\)\s*\{', re.DOTALL)
POINTERS = {"STORED": None, "bool": numpy.dtype(bool)}
SCALARS = {"long long": (int, ctypes.c_longlong), "double": (float, ctypes.c_double)}
DTYPES = {
    "double": numpy.dtype("float64"),
    "float": numpy.dtype("float32"),
    "__half": numpy.dtype("float16"),
    "__nv_bfloat16": numpy.dtype(ml_dtypes.bfloat16),
}

there_is_a_compiler = shutil.which("g++") is not None


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@cache
def build(source, options, folder):
    """Compile kernels with launchers of their own; return the library and their parameters."""
    file = folder / f"{abs(hash((source, options)))}.cpp"
    file.write_text(source, encoding="utf-8")
    plain = run("g++", "-E", "-P", "-xc++", f"-I{HERE}", str(file))
    parameters = {name: parsed(text) for name, text in KERNEL.findall(plain)}
    launchers = [
        f'extern "C" const char* run_{name}(unsigned blocks, unsigned along, unsigned across, '
        f"int backwards, {', '.join(f'{kind} {n}' for kind, n in given)}) {{ return launch(blocks, "
        f"along, across, backwards, [=] {{ {name}({', '.join(n for _, n in given)}); }}); }}"
        for name, given in parameters.items()
    ]
    file.write_text('#include "shim.h"\n' + source + "\n" + "\n".join(launchers), encoding="utf-8")
    library = file.with_suffix(".so")
    run("g++", "-std=c++17", "-O1", "-shared", "-fPIC", f"-I{HERE}", *options, str(file),
        "-o", str(library))  # fmt: skip
    return ctypes.CDLL(str(library)), parameters


def parsed(text):
    """Return a kernel's parameters: type and name."""
    pairs = (" ".join(one.split()).rpartition(" ") for one in text.split(","))
    return [(kind, name) for kind, _, name in pairs]


class HostArray(numpy.ndarray):
    """An array that tells where it lies in the way of CuPy's."""

    @property
    def data(self):
        return SimpleNamespace(ptr=self.__array_interface__["data"][0])


def hosted(x):
    return numpy.asarray(x).view(HostArray)


class HostModule:
    """``cupy.RawModule``: the functions of kernels.cu, which check what they are given."""

    def __init__(self, folder, code, options):
        self.stored = DTYPES[options[0].removeprefix("-DSTORED=")]
        self.library, self.parameters = build(code, options, folder)

    def get_function(self, name):
        function = getattr(self.library, f"run_{name}")
        function.restype = ctypes.c_char_p
        return lambda blocks, threads, given: self.launch(function, name, blocks, threads, given)

    def launch(self, function, name, blocks, threads, given):
        parameters = self.parameters[name]
        assert len(given) == len(parameters), name
        made = [self.passed(kind, x) for (kind, _), x in zip(parameters, given, strict=True)]
        along, across = (*threads, 1)[:2]
        complaint = function(blocks[0], along, across, HostCupy.backwards, *made)
        assert complaint is None, complaint

    def passed(self, kind, x):
        """Make an argument what C takes for it, as strictly as a GPU is not."""
        pointed = re.fullmatch(r"(?:const )?(\w+)\*", kind)
        if pointed is None:
            python, made = SCALARS[kind]
            assert type(x) is python, (kind, x)
            return made(x)
        if x is None:
            return ctypes.c_void_p(None)
        dtype = POINTERS[pointed[1]] or self.stored
        assert isinstance(x, numpy.ndarray)
        assert x.dtype == dtype, (kind, x.dtype)
        assert x.flags.c_contiguous or pointed[1] == "bool"  # which comes with its strides
        return ctypes.c_void_p(x.__array_interface__["data"][0])


NUMBERS = {"R_16F": "__half", "R_16BF": "__nv_bfloat16", "R_32F": "float", "R_64F": "double"}


class HostCublas:
    """The one function of cuBLAS that is used, told by its documentation."""

    CUBLAS_COMPUTE_32F = ctypes.c_float
    CUBLAS_COMPUTE_64F = ctypes.c_double
    CUBLAS_COMPUTE_32F_FAST_TF32 = None
    CUBLAS_GEMM_DEFAULT = -1

    @staticmethod
    def gemmStridedBatchedEx(  # noqa: N802 (its name)
        handle, transa, transb, m, n, k, alpha, A, Atype, lda, strideA, B, Btype, ldb, strideB,
        beta, C, Ctype, ldc, strideC, batchCount, computeType, algo,
    ):  # fmt: skip
        """op(A) (m, k) times op(B) (k, n), scaled, onto C (m, n): matrices laid by columns."""
        assert transb == 0
        rows = (k, m) if transa else (m, k)
        a = by_columns(A, Atype, rows, lda, strideA, batchCount)
        b = by_columns(B, Btype, (k, n), ldb, strideB, batchCount)
        c = by_columns(C, Ctype, (m, n), ldc, strideC, batchCount)
        wide = numpy.dtype(computeType)
        one, zero = computeType.from_address(alpha).value, computeType.from_address(beta).value
        a = a.swapaxes(1, 2) if transa else a
        product = wide.type(one) * (a.astype(wide) @ b.astype(wide))
        c[...] = product if zero == 0.0 else product + wide.type(zero) * c.astype(wide)


def by_columns(pointer, kind, shape, leading, stride, count):
    """Return ``count`` matrices that lie by columns, as one array."""
    dtype = DTYPES[NUMBERS[kind]]
    rows, columns = shape
    assert leading >= rows
    length = (count - 1) * stride + (columns - 1) * leading + rows
    memory = (ctypes.c_char * (length * dtype.itemsize)).from_address(pointer)
    flat = numpy.frombuffer(memory, numpy.dtype("V2") if dtype.itemsize == 2 else dtype)
    strides = tuple(dtype.itemsize * step for step in (stride, 1, leading))
    return numpy.lib.stride_tricks.as_strided(flat.view(dtype), (count, *shape), strides)


class HostCupy:
    """As much of CuPy as refimpl/ops/fused/cupy.py uses."""

    backwards = 0
    ndarray = numpy.ndarray
    float32 = numpy.float32
    add = staticmethod(numpy.add)
    broadcast_to = staticmethod(numpy.broadcast_to)
    ascontiguousarray = staticmethod(lambda x: hosted(numpy.ascontiguousarray(x)))

    def __init__(self, folder):
        self.folder = folder
        kinds = {f"CUDA_{kind}": kind for kind in NUMBERS}
        self.cuda = SimpleNamespace(
            cublas=HostCublas,
            runtime=SimpleNamespace(**kinds),
            device=SimpleNamespace(get_cublas_handle=lambda: 0),
        )
        linalg = SimpleNamespace(get_compute_type=lambda dtype: 1, COMPUTE_TYPE_TF32=7)
        self._core = SimpleNamespace(_routines_linalg=linalg)

    def RawModule(self, *, code, options):  # noqa: N802 (CuPy's name)
        return HostModule(self.folder, code, options)

    @staticmethod
    def matmul(a, b):
        """Numbers of 16 bits are summed in float32, as CuPy asks cuBLAS to do."""
        wide = numpy.float32 if a.dtype.itemsize == 2 else a.dtype
        return hosted((a.astype(wide) @ b.astype(wide)).astype(a.dtype))

    @staticmethod
    def empty(shape, dtype):
        """Memory that nobody has written: NaN wherever it is read before."""
        return hosted(numpy.full(shape, numpy.nan, dtype))
