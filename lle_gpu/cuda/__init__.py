"""The one door to CuPy: the module itself, and our CUDA kernels compiled and checked.

    from lle_gpu.cuda import cupy, kernel

    cp = cupy()                            # imports CuPy, or raises GpuUnavailableError
    f = kernel("barycentric.cu", "barycentric_warp<float, 16, 4>")
    f.launch(warp_per_item(n), points, index, W, np.int32(n), ...)

=========  =======================================================================================
arrays     NumPy's arrays and CuPy's, told apart
compiler   sources of the kernels, their instantiations, compiling and launching
duration   how much work one launch may do
geometry   grids, blocks and shared memory, computed and checked
inventory  the device's facts, and NVIDIA's libraries
memory     free device memory, chunks that fit in it, CuPy's allocator
probe      whether there is a GPU that all this works on
=========  =======================================================================================

Importing this package imports no CuPy.
"""

from __future__ import annotations

from lle_gpu.cuda.compiler import REALS, KernelCompilationError, kernel, register
from lle_gpu.cuda.probe import cupy

__all__ = ["REALS", "KernelCompilationError", "cupy", "kernel", "register"]
