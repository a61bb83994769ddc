// What one source needs so that NVRTC, nvcc and a compiler for the CPU all take it.
//
// Compiled for the CPU (the tests run every kernel there), EMULATED is defined, and so is what
// stands below.
#pragma once
#ifndef EMULATED
// Dynamic shared memory, as bytes. One declaration without a type: typed ones, extern __shared__ T
// s[], clash between instantiations.
#define DYN_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
// A number that other threads change by atomics meanwhile, as it is or was.
__device__ __forceinline__ int racing_load(const int* p) {
  return *static_cast<const volatile int*>(p);
}
#endif
