// CUDA's dialect of C++ for a compiler for the CPU: put before a kernel's source, which stays as it
// is. Every CUDA thread is a fiber, runtime.cpp schedules them. The package's docstring says what
// is modelled and what is not.
#pragma once
#define EMULATED 1
#include <assert.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <type_traits>
#include <utility>

#define __CUDA_ARCH__ 900
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
// After every standard header: libstdc++ spells an attribute so.
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)  // host.py reads them, and refuses what is launched beyond
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __constant__ static const
// Kernels are compiled inside an unnamed namespace: these statics then get AddressSanitizer's red
// zones (COMDAT ones do not), and being alone in .bss they can be refilled with garbage before each
// block.
#define __shared__ static
#define DYN_SHARED(name) \
  unsigned char* const name = static_cast<unsigned char*>(emu_dynamic_shared())

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
#define EMU_VECTORS(T, N)                                                     \
  struct alignas(2 * sizeof(T)) N##2 { T x, y; };                             \
  struct alignas(sizeof(T) == 8 ? 16 : 4 * sizeof(T)) N##4 { T x, y, z, w; }; \
  static inline N##2 make_##N##2(T x, T y) { return {x, y}; }                 \
  static inline N##4 make_##N##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMU_VECTORS(float, float)
EMU_VECTORS(double, double)
EMU_VECTORS(int, int)
EMU_VECTORS(unsigned, uint)
#undef EMU_VECTORS

// ---- runtime.cpp, never instrumented by a sanitizer ----
struct emu_thread {
  uint3 index;
  unsigned warp, lane;
};
// Where a barrier, shuffle or vote stands.
struct emu_place {
  const char* file;
  int line;
};
enum { EMU_SYNC, EMU_SHUFFLE, EMU_BALLOT, EMU_GATHER };
extern "C" {
extern emu_thread* emu_current;
extern uint3 emu_block_index;
extern dim3 emu_block_dim, emu_grid_dim;
void* emu_dynamic_shared();
void emu_block_barrier(emu_place at);
// SHUFFLE: *value becomes lane source's. BALLOT: returns the votes. GATHER: out gets the 32 lanes'.
unsigned emu_warp_op(int op, unsigned mask, void* value, int size, int source, void* out,
                     emu_place at);
[[noreturn]] void emu_fail(const char* what, emu_place at);
long long emu_clock();
}
#define threadIdx (emu_current->index)
#define blockIdx emu_block_index
#define blockDim emu_block_dim
#define gridDim emu_grid_dim
#define warpSize 32
#define EMU_LANE int(emu_current->lane)
// As a last parameter: the caller's file and line.
#define EMU_AT emu_place at = {__builtin_FILE(), __builtin_LINE()}

// ---- barriers, shuffles, votes ----
static inline void __syncthreads(EMU_AT) { emu_block_barrier(at); }
static inline void __syncwarp(unsigned mask = 0xffffffffu, EMU_AT) {
  emu_warp_op(EMU_SYNC, mask, nullptr, 0, 0, nullptr, at);
}
template <class T>
static inline T emu_shuffle(unsigned mask, T value, int source, emu_place at) {
  static_assert(sizeof(T) <= 16 && std::is_trivially_copyable<T>::value, "");
  emu_warp_op(EMU_SHUFFLE, mask, &value, sizeof(T), source, nullptr, at);
  return value;
}
template <class T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMU_AT) {
  const int lane = (EMU_LANE & ~(width - 1)) | (source & (width - 1));
  return emu_shuffle(mask, value, lane, at);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, EMU_AT) {
  const int lane = EMU_LANE, place = lane & (width - 1);
  return emu_shuffle(mask, value, place < int(delta) ? lane : lane - int(delta), at);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, EMU_AT) {
  const int lane = EMU_LANE, place = lane & (width - 1);
  return emu_shuffle(mask, value, place + int(delta) >= width ? lane : lane + int(delta), at);
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EMU_AT) {
  const int lane = EMU_LANE, source = lane ^ bits;
  return emu_shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, at);
}
static inline unsigned __ballot_sync(unsigned mask, int vote, EMU_AT) {
  return emu_warp_op(EMU_BALLOT, mask, &vote, 4, 0, nullptr, at);
}
static inline int __any_sync(unsigned mask, int vote, EMU_AT) {
  return __ballot_sync(mask, vote, at) != 0;
}
static inline int __all_sync(unsigned mask, int vote, EMU_AT) {
  return __ballot_sync(mask, !vote, at) == 0;
}
template <class T, class F>
static inline T emu_reduce(unsigned mask, T value, F f, emu_place at) {
  T all[32], result{};
  bool first = true;
  emu_warp_op(EMU_GATHER, mask, &value, sizeof(T), 0, all, at);
  for (int i = 0; i < 32; ++i)
    if (mask >> i & 1) {
      result = first ? all[i] : f(result, all[i]);
      first = false;
    }
  return result;
}
static inline unsigned __reduce_add_sync(unsigned mask, unsigned value, EMU_AT) {
  return emu_reduce(mask, value, [](unsigned a, unsigned b) { return a + b; }, at);
}
static inline int __reduce_max_sync(unsigned mask, int value, EMU_AT) {
  return emu_reduce(mask, value, [](int a, int b) { return a > b ? a : b; }, at);
}
static inline int __reduce_min_sync(unsigned mask, int value, EMU_AT) {
  return emu_reduce(mask, value, [](int a, int b) { return a < b ? a : b; }, at);
}
template <class T>
static inline unsigned __match_any_sync(unsigned mask, T value, EMU_AT) {
  T all[32];
  unsigned same = 0;
  emu_warp_op(EMU_GATHER, mask, &value, sizeof(T), 0, all, at);
  for (int i = 0; i < 32; ++i)
    if ((mask >> i & 1) && all[i] == value) same |= 1u << i;
  return same;
}
static inline int __syncthreads_count(int vote, EMU_AT) {
  static int count;
  emu_block_barrier(at);
  __atomic_store_n(&count, 0, __ATOMIC_RELAXED);
  emu_block_barrier(at);
  __atomic_fetch_add(&count, vote != 0, __ATOMIC_RELAXED);
  emu_block_barrier(at);
  return __atomic_load_n(&count, __ATOMIC_RELAXED);
}
static inline int __syncthreads_or(int vote, EMU_AT) { return __syncthreads_count(vote, at) != 0; }
static inline int __syncthreads_and(int vote, EMU_AT) {
  return __syncthreads_count(!vote, at) == 0;
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __trap(EMU_AT) { emu_fail("__trap()", at); }
static inline void __nanosleep(unsigned) {}
static inline long long clock64() { return emu_clock(); }
#undef assert
#define assert(condition) \
  ((condition) ? (void)0 : emu_fail("assertion failed: " #condition, {__FILE__, __LINE__}))

// ---- atomics: real ones, so that ThreadSanitizer sees them as such ----
template <class T, class F>
static inline T emu_update(T* p, F f) {
  using U = std::conditional_t<sizeof(T) == 8, unsigned long long, unsigned>;
  U before = __atomic_load_n(reinterpret_cast<U*>(p), __ATOMIC_RELAXED), after;
  T old, updated;
  do {
    memcpy(&old, &before, sizeof before);
    updated = f(old);
    memcpy(&after, &updated, sizeof after);
  } while (!__atomic_compare_exchange_n(reinterpret_cast<U*>(p), &before, after, false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}
template <class T>
using emu_same = typename std::common_type<T>::type;  // the value's type deduces nothing
#define EMU_ATOMIC(name, result)                          \
  template <class T>                                      \
  static inline T name(T* p, emu_same<T> v) {             \
    return emu_update(p, [v](T a) { return T(result); }); \
  }
EMU_ATOMIC(atomicAdd, a + v)
EMU_ATOMIC(atomicSub, a - v)
EMU_ATOMIC(atomicMax, a > v ? a : v)
EMU_ATOMIC(atomicMin, a < v ? a : v)
EMU_ATOMIC(atomicOr, a | v)
EMU_ATOMIC(atomicAnd, a& v)
EMU_ATOMIC(atomicXor, a ^ v)
#undef EMU_ATOMIC
template <class T>
static inline T atomicExch(T* p, emu_same<T> v) {
  return emu_update(p, [v](T) { return v; });
}
template <class T>
static inline T atomicCAS(T* p, emu_same<T> compare, emu_same<T> v) {
  return emu_update(p, [compare, v](T a) { return a == compare ? v : a; });
}

static inline int racing_load(const int* p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }

// ---- arithmetic and loads ----
template <class A, class B>
static constexpr std::common_type_t<A, B> min(A a, B b) {
  return b < a ? b : a;
}
template <class A, class B>
static constexpr std::common_type_t<A, B> max(A a, B b) {
  return a < b ? b : a;
}
static inline float rsqrtf(float x) { return float(1.0 / ::sqrt(double(x))); }
static inline double rsqrt(double x) { return double(1.0L / sqrtl(x)); }
static inline float rsqrt(float x) { return rsqrtf(x); }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __fma_rn(double a, double b, double c) { return ::fma(a, b, c); }
// Rounded to nearest and never fused with a neighbouring operation: volatile sees to that.
#define EMU_ROUNDED(T, name, operation) \
  static inline T name(T a, T b) {      \
    volatile T r = a operation b;       \
    return r;                           \
  }
EMU_ROUNDED(float, __fadd_rn, +)
EMU_ROUNDED(float, __fsub_rn, -)
EMU_ROUNDED(float, __fmul_rn, *)
EMU_ROUNDED(float, __fdiv_rn, /)
EMU_ROUNDED(float, __fdividef, /)
EMU_ROUNDED(double, __dadd_rn, +)
EMU_ROUNDED(double, __dsub_rn, -)
EMU_ROUNDED(double, __dmul_rn, *)
EMU_ROUNDED(double, __ddiv_rn, /)
#undef EMU_ROUNDED
static inline float __frsqrt_rn(float x) { return rsqrtf(x); }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline double __dsqrt_rn(double x) { return ::sqrt(x); }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline double __drcp_rn(double x) { return 1.0 / x; }
static inline float __double2float_rn(double x) { return float(x); }
static inline float __int2float_rn(int x) { return float(x); }
static inline double __int2double_rn(int x) { return double(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
template <class To, class From>
static inline To emu_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
static inline int __float_as_int(float x) { return emu_bits<int>(x); }
static inline float __int_as_float(int x) { return emu_bits<float>(x); }
static inline unsigned __float_as_uint(float x) { return emu_bits<unsigned>(x); }
static inline float __uint_as_float(unsigned x) { return emu_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return emu_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return emu_bits<double>(x); }
template <class T>
static inline T __ldg(const T* p) {
  return *p;
}
template <class T>
static inline T __ldcs(const T* p) {
  return *p;
}
template <class T>
static inline T __ldcg(const T* p) {
  return *p;
}
template <class T>
static inline void __stcs(T* p, emu_same<T> v) {
  *p = v;
}
template <class T>
static inline void __stcg(T* p, emu_same<T> v) {
  *p = v;
}

// ---- the table of kernels, and what a built library says of itself ----
struct emu_entry {
  const char* name;
  void (*call)(void**);
  const char* signature;
  unsigned most_threads;  // in a block
};
struct emu_library {
  emu_entry* entries;
  char *shared_begin, *shared_end;  // all that is __shared__
};
template <class T>
constexpr char emu_kind() {
  return std::is_floating_point<T>::value ? 'f'
         : std::is_same<T, bool>::value   ? 'b'
         : std::is_signed<T>::value       ? 'i'
         : std::is_integral<T>::value     ? 'u'
                                          : 'x';
}
// One word for a parameter: P for a pointer, c if to const, then kind and size as NumPy has them.
template <class T>
static void emu_write_word(char*& s) {
  if constexpr (std::is_pointer<T>::value) {
    using E = std::remove_pointer_t<T>;
    *s++ = 'P';
    if (std::is_const<E>::value) *s++ = 'c';
    emu_write_word<std::remove_cv_t<E>>(s);
  } else {
    s += sprintf(s, "%c%d ", emu_kind<T>(), int(sizeof(T)));
  }
}
template <class... A>
const char* emu_signature(void (*)(A...)) {
  static char words[24 * (sizeof...(A) + 1)] = "-";
  char* s = words;
  (emu_write_word<std::remove_cv_t<A>>(s), ...);
  return words;
}
template <class... A, size_t... I>
static void emu_apply(void (*f)(A...), void** a, std::index_sequence<I...>) {
  f(*static_cast<std::remove_reference_t<A>*>(a[I])...);
}
template <auto F>
struct emu_caller;
template <class... A, void (*F)(A...)>
struct emu_caller<F> {
  static void call(void** a) { emu_apply<A...>(F, a, std::index_sequence_for<A...>{}); }
};
#define EMU_ENTRY(text, most_threads, ...) \
  {text, emu_caller<&__VA_ARGS__>::call, emu_signature(&__VA_ARGS__), most_threads},
