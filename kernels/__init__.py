"""CUDA sources (``*.cu``, ``*.cuh``) of lle_gpu, shipped in the wheel as ``lle_gpu.kernels``.

There are none yet: this version runs on the CPU. The package stands here because an editable
install needs it to exist, and so that the sources have their place when they come.
"""
