// Scheduler of fibers behind emulator.h: blocks one after the other, threads of a block in turns.
//
// Built once, without sanitizers, and shared by all kernels: it tells AddressSanitizer and
// ThreadSanitizer about fibers and barriers itself, through weak symbols, so one library serves all
// kinds of build.
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#else
#include <ucontext.h>
#endif
#define PUBLIC extern "C" __attribute__((visibility("default")))
#define WEAK extern "C" __attribute__((weak))

WEAK void __sanitizer_start_switch_fiber(void**, const void*, size_t);
WEAK void __sanitizer_finish_switch_fiber(void*, const void**, size_t*);
WEAK void __asan_poison_memory_region(void const volatile*, size_t);
WEAK void __asan_unpoison_memory_region(void const volatile*, size_t);
WEAK void* __tsan_create_fiber(unsigned);
WEAK void __tsan_destroy_fiber(void*);
WEAK void* __tsan_get_current_fiber();
WEAK void __tsan_switch_to_fiber(void*, unsigned);
WEAK void __tsan_acquire(void*);
WEAK void __tsan_release(void*);

struct uint3 {
  unsigned x, y, z;
};
struct Place {
  const char* file;
  int line;
  bool operator==(const Place& other) const {
    return line == other.line && (file == other.file || !strcmp(file, other.file));
  }
};
enum State { READY, AT_BLOCK_BARRIER, AT_WARP_OP, DONE };
enum Op { SYNC, SHUFFLE, BALLOT, GATHER };
struct Fiber {
  uint3 index;  // with warp and lane, the part that emulator.h sees
  unsigned warp, lane;
  State state;
  int op, source, size;
  Place at;
  unsigned mask, result;
  void *value, *out;
  void* stack_pointer;
  char* stack;
  size_t stack_size;
  void* tsan;
#if !defined(__x86_64__)
  ucontext_t context;
#endif
};
struct Entry {
  const char* name;
  void (*call)(void**);
  const char* signature;
  unsigned most_threads;
};
struct Library {
  Entry* entries;
  char *shared_begin, *shared_end;
};
struct Launch {
  unsigned grid[3], block[3];
  uint64_t shared_bytes, seed;
};

enum { MAX_THREADS = 1024, STACK_BYTES = 256 << 10, GUARD_BYTES = 64 };
// What a byte of memory that nobody has written reads as: NaN, or -1.
static const unsigned char GARBAGE = 0xff;

PUBLIC Fiber* emu_current;
PUBLIC uint3 emu_block_index, emu_block_dim, emu_grid_dim;
Fiber* emu_current = nullptr;
uint3 emu_block_index = {}, emu_block_dim = {}, emu_grid_dim = {};

static struct {
  Fiber *fibers, main;
  unsigned n, n_waiting, n_done, position, made;
  unsigned block_phase, warp_phase[MAX_THREADS], arrived[MAX_THREADS], returned[MAX_THREADS / 32];
  unsigned order[MAX_THREADS];
  uint64_t random, seed, switches;
  size_t shared_bytes;
  unsigned char* shared;
  void (*call)(void**);
  void** arguments;
  // Addresses that stand for happens-before edges in ThreadSanitizer.
  char block_edge[2], warp_edge[MAX_THREADS][2], start_edge, end_edge;
  int failed;
  char error[2048];
} S;

static uint64_t next_random() {
  S.random ^= S.random << 13;
  S.random ^= S.random >> 7;
  S.random ^= S.random << 17;
  return S.random;
}

// Seed 0: ascending, 1: descending, else random.
static void arrange(unsigned* order, unsigned n) {
  for (unsigned i = 0; i < n; ++i) order[i] = S.seed == 1 ? n - 1 - i : i;
  if (S.seed <= 1) return;
  for (unsigned i = n; i > 1; --i) {
    const unsigned j = next_random() % i, t = order[i - 1];
    order[i - 1] = order[j];
    order[j] = t;
  }
}

// Never a call to libc's memcpy, which the sanitizers intercept.
static inline void copy(void* to, const void* from, int n) {
  if (n == 4)
    __builtin_memcpy(to, from, 4);
  else if (n == 8)
    __builtin_memcpy(to, from, 8);
  else
    for (int i = 0; i < n; ++i) ((volatile char*)to)[i] = ((const volatile char*)from)[i];
}

// ---- switching between fibers ----
extern "C" void emu_first();
#if defined(__x86_64__)
extern "C" void emu_swap(void** save, void* load);
asm(".text\n.p2align 4\n.hidden emu_swap\n.globl emu_swap\n.type emu_swap,@function\nemu_swap:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
    ".size emu_swap,.-emu_swap\n");
static void prepare(Fiber* f) {
  void** top = (void**)(f->stack + f->stack_size) - 1;  // entered with rsp % 16 == 8
  *top = nullptr;
  *--top = (void*)emu_first;
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  f->stack_pointer = top;
}
static void swap_to(Fiber* from, Fiber* to) { emu_swap(&from->stack_pointer, to->stack_pointer); }
#else
static void prepare(Fiber* f) {
  getcontext(&f->context);
  f->context.uc_stack.ss_sp = f->stack;
  f->context.uc_stack.ss_size = f->stack_size;
  f->context.uc_link = nullptr;
  makecontext(&f->context, emu_first, 0);
}
static void swap_to(Fiber* from, Fiber* to) { swapcontext(&from->context, &to->context); }
#endif

static void landed(void* fake_stack) {
  if (!__sanitizer_finish_switch_fiber) return;
  const void* stack;
  size_t size;
  __sanitizer_finish_switch_fiber(fake_stack, &stack, &size);
  if (!S.main.stack) {  // the first fiber learns where main's stack is
    S.main.stack = (char*)stack;
    S.main.stack_size = size;
  }
}
static void go(Fiber* from, Fiber* to) {
  if (from == to) return;
  void* fake_stack = nullptr;
  ++S.switches;
  if (__sanitizer_start_switch_fiber)
    __sanitizer_start_switch_fiber(from->state == DONE ? nullptr : &fake_stack, to->stack,
                                   to->stack_size);
  if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(to->tsan, 1);  // 1: implies no order
  emu_current = to;
  swap_to(from, to);
  landed(fake_stack);
}
// The next thread that can run, or main when there is none.
static Fiber* next() {
  for (unsigned k = 0; k < S.n; ++k) {
    if (++S.position >= S.n) {
      S.position = 0;
      if (S.seed > 1) arrange(S.order, S.n);
    }
    Fiber* f = &S.fibers[S.order[S.position]];
    if (f->state == READY) return f;
  }
  return &S.main;
}

// ---- failures: note the first, return to main, abandon the fibers ----
static void note_list(const char* format, va_list list) {
  if (S.failed++) return;
  const Fiber* f = emu_current;
  int k = snprintf(S.error, sizeof S.error, "block (%u,%u,%u)", emu_block_index.x,
                   emu_block_index.y, emu_block_index.z);
  if (f && f != &S.main)
    k += snprintf(S.error + k, sizeof S.error - k, " thread (%u,%u,%u) = warp %u lane %u",
                  f->index.x, f->index.y, f->index.z, f->warp, f->lane);
  k += snprintf(S.error + k, sizeof S.error - k, ": ");
  vsnprintf(S.error + k, sizeof S.error - k, format, list);
}
static void note(const char* format, ...) {
  va_list list;
  va_start(list, format);
  note_list(format, list);
  va_end(list);
}
[[noreturn]] static void fail(const char* format, ...) {
  va_list list;
  va_start(list, format);
  note_list(format, list);
  va_end(list);
  go(emu_current, &S.main);
  abort();
}
static const char* base(const char* path) {
  const char* slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}
PUBLIC [[noreturn]] void emu_fail(const char* what, Place at) {
  fail("%s (%s:%d)", what, base(at.file), at.line);
}
PUBLIC void* emu_dynamic_shared() { return S.shared; }
PUBLIC long long emu_clock() { return (long long)S.switches; }

// ---- barriers ----
PUBLIC void emu_block_barrier(Place at) {
  Fiber* me = emu_current;
  char* edge = &S.block_edge[S.block_phase & 1];
  if (__tsan_release) __tsan_release(edge);
  me->state = AT_BLOCK_BARRIER;
  me->at = at;
  if (++S.n_waiting == S.n) {
    for (unsigned i = 0; i < S.n; ++i) {
      const Place there = S.fibers[i].at;
      if (!(there == at))
        fail("__syncthreads() divergence: this thread at %s:%d, thread %u at %s:%d", base(at.file),
             at.line, i, base(there.file), there.line);
    }
    for (unsigned i = 0; i < S.n; ++i) S.fibers[i].state = READY;
    S.n_waiting = 0;
    ++S.block_phase;
    if (S.seed > 1) arrange(S.order, S.n);
  }
  go(me, next());
  if (__tsan_acquire) __tsan_acquire(edge);
}
// All lanes that the mask names are here with that mask, or have returned.
static bool warp_ready(unsigned warp, unsigned mask) {
  const unsigned here = S.arrived[warp * 32 + __builtin_ctz(mask)];
  if (here < (unsigned)__builtin_popcount(mask & ~S.returned[warp])) return false;
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned i = warp * 32 + lane;
    if (!(mask >> lane & 1) || i >= S.n) continue;
    if (S.fibers[i].state == DONE) continue;
    if (S.fibers[i].state != AT_WARP_OP || S.fibers[i].mask != mask) return false;
  }
  return true;
}
static void warp_finish(unsigned warp, unsigned mask) {
  Fiber *lanes = S.fibers + warp * 32, *first = nullptr;
  const unsigned top = S.n - warp * 32 < 32 ? S.n - warp * 32 : 32;
  unsigned votes = 0;
  char values[32][16];
  for (unsigned l = 0; l < top; ++l) {
    Fiber& f = lanes[l];
    if (!(mask >> l & 1) || f.state != AT_WARP_OP) continue;
    if (!first) first = &f;
    if (f.op != first->op || !(f.at == first->at))
      return note("warp divergence: lane %u at %s:%d meets lane %u at %s:%d", first->lane,
                  base(first->at.file), first->at.line, l, base(f.at.file), f.at.line);
    if (first->op == BALLOT)
      votes |= unsigned(*(int*)f.value != 0) << l;
    else if (first->op != SYNC)
      copy(values[l], f.value, f.size);
  }
  for (unsigned l = 0; l < top; ++l) {
    Fiber& f = lanes[l];
    if (!(mask >> l & 1) || f.state != AT_WARP_OP) continue;
    if (f.op == SHUFFLE) {
      const unsigned s = unsigned(f.source);
      if (s >= top || !(mask >> s & 1) || lanes[s].state == DONE)
        return note("%s:%d: lane %u shuffles from lane %d, which takes no part (mask %08x)",
                    base(f.at.file), f.at.line, l, f.source, mask);
      if (s != l && f.size != lanes[s].size)
        return note("%s:%d: shuffle of different sizes", base(f.at.file), f.at.line);
      copy(f.value, values[s], f.size);
    } else if (f.op == GATHER) {
      for (unsigned s = 0; s < top; ++s) copy((char*)f.out + s * f.size, values[s], f.size);
    }
    f.result = votes;
  }
  const unsigned key = warp * 32 + __builtin_ctz(mask);
  for (unsigned l = 0; l < top; ++l)
    if ((mask >> l & 1) && lanes[l].state == AT_WARP_OP) {
      lanes[l].state = READY;
      --S.arrived[key];
    }
  ++S.warp_phase[key];
}
PUBLIC unsigned emu_warp_op(int op, unsigned mask, void* value, int size, int source, void* out,
                            Place at) {
  Fiber* me = emu_current;
  if (!(mask >> me->lane & 1))
    fail("%s:%d: warp operation by a lane that its mask %08x does not name", base(at.file), at.line,
         mask);
  const unsigned key = me->warp * 32 + __builtin_ctz(mask);
  // Only __syncwarp orders memory; shuffles and votes do not.
  char* edge = op == SYNC ? &S.warp_edge[key][S.warp_phase[key] & 1] : nullptr;
  if (edge && __tsan_release) __tsan_release(edge);
  me->op = op;
  me->mask = mask;
  me->value = value;
  me->size = size;
  me->source = source;
  me->out = out;
  me->at = at;
  me->state = AT_WARP_OP;
  ++S.arrived[key];
  if (warp_ready(me->warp, mask)) {
    warp_finish(me->warp, mask);
    if (S.failed) fail("-");
  }
  go(me, next());
  if (edge && __tsan_acquire) __tsan_acquire(edge);
  return me->result;
}

// ---- blocks ----
extern "C" void emu_first() {
  landed(nullptr);
  if (__tsan_acquire) __tsan_acquire(&S.start_edge);
  S.call(S.arguments);
  Fiber* me = emu_current;
  if (__tsan_release) __tsan_release(&S.end_edge);
  me->state = DONE;
  ++S.n_done;
  S.returned[me->warp] |= 1u << me->lane;
  for (unsigned l = 0; l < 32 && me->warp * 32 + l < S.n; ++l) {
    Fiber& f = S.fibers[me->warp * 32 + l];  // may have waited for this return only
    if (f.state == AT_WARP_OP && warp_ready(f.warp, f.mask)) warp_finish(f.warp, f.mask);
  }
  go(me, S.failed ? &S.main : next());
  abort();
}
static void deadlock() {
  char where[1200];
  int k = 0;
  unsigned shown = 0, run = 0;
  for (unsigned i = 0; i < S.n && shown < 12; i += run) {  // runs of threads in one state
    const Fiber& f = S.fibers[i];
    for (run = 1; i + run < S.n; ++run) {
      const Fiber& g = S.fibers[i + run];
      if (g.state != f.state || (f.state != DONE && !(g.at == f.at)) ||
          (f.state == AT_WARP_OP && g.mask != f.mask))
        break;
    }
    ++shown;
    k += snprintf(where + k, sizeof where - k, "\n  threads %u-%u ", i, i + run - 1);
    if (f.state == DONE)
      k += snprintf(where + k, sizeof where - k, "have returned");
    else if (f.state == AT_BLOCK_BARRIER)
      k += snprintf(where + k, sizeof where - k, "wait in __syncthreads() at %s:%d",
                    base(f.at.file), f.at.line);
    else
      k += snprintf(where + k, sizeof where - k, "wait in a warp operation at %s:%d, mask %08x",
                    base(f.at.file), f.at.line, f.mask);
  }
  note("barrier divergence, no thread can go on:%s", where);
}
static void run_block(const Library* library) {
  // No kernel may read shared memory that it has not written.
  for (volatile char* p = library->shared_begin; p < library->shared_end; ++p) *p = (char)GARBAGE;
  for (size_t i = 0; i < S.shared_bytes + GUARD_BYTES; ++i)
    ((volatile unsigned char*)S.shared)[i] = GARBAGE;
  const uint3 block = emu_block_dim;
  for (unsigned i = 0; i < S.n; ++i) {
    Fiber& f = S.fibers[i];
    f.index = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    f.warp = i / 32;
    f.lane = i % 32;
    f.state = READY;
    if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(f.stack, f.stack_size);
    prepare(&f);
  }
  memset(S.warp_phase, 0, sizeof S.warp_phase);
  memset(S.arrived, 0, sizeof S.arrived);
  for (unsigned w = 0; w < MAX_THREADS / 32; ++w)  // lanes beyond the block count as returned
    S.returned[w] = S.n >= w * 32 + 32 ? 0u : S.n <= w * 32 ? ~0u : ~0u << (S.n - w * 32);
  S.n_waiting = S.n_done = S.block_phase = 0;
  arrange(S.order, S.n);
  S.position = S.n - 1;
  if (__tsan_release) __tsan_release(&S.start_edge);
  go(&S.main, next());
  if (__tsan_acquire) __tsan_acquire(&S.end_edge);
  if (!S.failed && S.n_done != S.n) deadlock();
  for (size_t i = 0; i < GUARD_BYTES && !S.failed; ++i)
    if (S.shared[S.shared_bytes + i] != GARBAGE)
      note("write past the end of dynamic shared memory (%zu bytes)", S.shared_bytes);
}
static bool make_fibers(unsigned n) {
  if (!S.fibers) S.fibers = (Fiber*)calloc(MAX_THREADS, sizeof(Fiber));
  for (; S.made < n; ++S.made) {
    enum { PAGE = 4096 };
    char* p = (char*)mmap(nullptr, STACK_BYTES + PAGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return false;
    mprotect(p, PAGE, PROT_NONE);  // overflow of a fiber's stack faults
    Fiber& f = S.fibers[S.made];
    f.stack = p + PAGE;
    // Tops at different places in their pages: else all lanes' would share a few lines of the cache.
    f.stack_size = STACK_BYTES - S.made % 32 * 448;
    if (__tsan_create_fiber) f.tsan = __tsan_create_fiber(0);
  }
  return true;
}
static uint64_t common_divisor(uint64_t a, uint64_t b) { return b ? common_divisor(b, a % b) : a; }

PUBLIC const char* emu_error() { return S.error; }
PUBLIC uint64_t emu_switches() { return S.switches; }
PUBLIC int emu_launch(const Library* library, unsigned entry, const Launch* launch, void** args) {
  S.failed = 0;
  S.error[0] = 0;
  S.main.state = READY;
  const unsigned *grid = launch->grid, *block = launch->block;
  const uint64_t n = uint64_t(block[0]) * block[1] * block[2];
  const uint64_t n_blocks = uint64_t(grid[0]) * grid[1] * grid[2];
  if (n == 0 || n > MAX_THREADS || block[2] > 64 || n_blocks == 0 || grid[0] > 0x7fffffffu ||
      grid[1] > 65535 || grid[2] > 65535)
    return note("launch: impossible grid or block"), 1;
  if (!make_fibers((unsigned)n)) return note("launch: no memory for stacks"), 1;
  if (__tsan_get_current_fiber) S.main.tsan = __tsan_get_current_fiber();
  S.n = (unsigned)n;
  S.seed = launch->seed;
  S.random = launch->seed * 0x9E3779B97F4A7C15ull | 1;
  S.shared_bytes = launch->shared_bytes;
  // What lies behind belongs to us: a kernel that writes there is found out and harms nobody.
  S.shared = (unsigned char*)malloc(S.shared_bytes + GUARD_BYTES);
  if (__asan_poison_memory_region)
    __asan_poison_memory_region(S.shared + S.shared_bytes, GUARD_BYTES);
  S.call = library->entries[entry].call;
  S.arguments = args;
  emu_block_dim = {block[0], block[1], block[2]};
  emu_grid_dim = {grid[0], grid[1], grid[2]};
  // A stride prime to the number of blocks visits each of them once.
  uint64_t step = 1, offset = 0;
  if (S.seed > 1 && n_blocks > 2) {
    step = next_random() % n_blocks | 1;
    offset = next_random() % n_blocks;
    if (common_divisor(n_blocks, step) != 1) step = 1;
  }
  for (uint64_t k = 0; k < n_blocks && !S.failed; ++k) {
    const uint64_t i = S.seed == 1 ? n_blocks - 1 - k : (k * step + offset) % n_blocks;
    emu_block_index = {unsigned(i % grid[0]), unsigned(i / grid[0] % grid[1]),
                       unsigned(i / grid[0] / grid[1])};
    run_block(library);
  }
  if (S.failed && __tsan_destroy_fiber) {  // what abandoned threads did comes before what follows
    for (unsigned i = 0; i < S.made; ++i) {
      __tsan_switch_to_fiber(S.fibers[i].tsan, 1);
      __tsan_release(&S.end_edge);
      __tsan_switch_to_fiber(S.main.tsan, 1);
      __tsan_destroy_fiber(S.fibers[i].tsan);
      S.fibers[i].tsan = __tsan_create_fiber(0);
    }
    __tsan_acquire(&S.end_edge);
  }
  if (__asan_unpoison_memory_region)
    __asan_unpoison_memory_region(S.shared, S.shared_bytes + GUARD_BYTES);
  free(S.shared);
  S.shared = nullptr;
  emu_current = nullptr;
  return S.failed;
}
