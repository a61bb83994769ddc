"""Stage 3: F -> the right singular vectors of F of smallest singular value, orthogonal to 1.

What knows no device, in the order in which it is used:

- :mod:`lle_gpu.spectral.solve`: the choice of solver, followed, and the ways out of failures;
- :mod:`lle_gpu.spectral.problem`: F, what is asked for, what each way to answer it will cost;
- :mod:`lle_gpu.spectral.choice`: which way, by these costs;
- :mod:`lle_gpu.spectral.inverse_iteration`: shift-invert, null vectors kept out, refined through F;
- :mod:`lle_gpu.spectral.refinement`: what the rounding of M hides, brought back through F;
- :mod:`lle_gpu.spectral.davidson`: for a square F that fills in, preconditioned by the polynomial
  of :mod:`lle_gpu.spectral.gmres_polynomial`;
- :mod:`lle_gpu.spectral.chebyshev`: the operator that only multiplies;
- :mod:`lle_gpu.spectral.lanczos`: block Lanczos over an operator, which shift-invert and the filter
  run on; :mod:`lle_gpu.spectral.multiplicity`: copies of multiple values that it cannot see;
- :mod:`lle_gpu.spectral.certificate`, :mod:`~lle_gpu.spectral.spectrum`: what is known at the end.

What a device brings, named in :mod:`lle_gpu.spectral.toolbox` and bound to ``bottom_vectors`` by
:mod:`lle_gpu.spectral.cpu` and :mod:`lle_gpu.spectral.gpu`: F and M, products, inverses.
"""

from __future__ import annotations

from lle_gpu.memory import SOLVERS
from lle_gpu.spectral.spectrum import Spectrum

__all__ = ["SOLVERS", "Spectrum"]
