"""CUDA sources (``*.cu``, ``*.cuh``) of lle_gpu, shipped in the wheel as ``lle_gpu.kernels``.

=================  ==============================================================  ===============
source             what its kernels compute                                        CPU twin
=================  ==============================================================  ===============
knn.cu             the k nearest neighbours, exactly                               neighbors/cpu
closed_classes.cu  points that lead to one, and to which one leads                 neighbors/graph
barycentric.cu     weights that rebuild points from neighbours; weighted means     standard
local_eigen.cu     principal directions of all neighbourhoods (.cuh: Jacobi)       local
modified.cu        the constraints of modified LLE                                 modified
hessian.cu         the constraints of Hessian eigenmaps                            hessian
ltsa.cu            the constraints of local tangent space alignment                ltsa
products.cu        F X, F^T Y, M X, and a step of a Chebyshev recurrence           products
dissection.cu      nested dissection: distances, cuts and separators               ordering
normals.cu         random start blocks                                             (NumPy)
compat.cuh         what lets one source be compiled for devices and for the CPU
=================  ==============================================================  ===============

:mod:`lle_gpu.cuda` loads, compiles and launches them.
"""
