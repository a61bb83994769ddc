"""Stage 3: F -> the right singular vectors of F of smallest singular value, orthogonal to 1.

- :mod:`lle_gpu.spectral.lanczos`: block Lanczos over any operator, the only iteration there is;
- :mod:`lle_gpu.spectral.chebyshev`: the operator that only multiplies, on any device;
- :mod:`lle_gpu.spectral.spectrum`: the certificate that goes with the vectors;
- :mod:`lle_gpu.spectral.cpu`: the operators, and the choice between them, on the CPU.
"""

from __future__ import annotations

from lle_gpu.spectral.spectrum import Spectrum

__all__ = ["SOLVERS", "Spectrum"]

SOLVERS = ("auto", "dense", "shift-invert", "arpack", "chebyshev")
