// C interface of the runtime: loads a program and its regions from bytes and runs them. No function throws.
#ifndef TILEWRIGHT_RUNTIME_C_H_
#define TILEWRIGHT_RUNTIME_C_H_

#include <stddef.h>
#include <stdint.h>

#define TW_RT_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

// Raised whenever a struct or a signature below changes; the binding compares it.
#define TW_RT_ABI 2
#define TW_RT_MAX_RANK 8

typedef struct tw_program tw_program;

enum tw_rt_kind {
  TW_RT_OK = 0,
  TW_RT_PACKAGE = 1,    // the bytes are not a legal program
  TW_RT_DATA = 2,       // the inputs do not fit it
  TW_RT_SIMULATOR = 3,  // the accelerator found a fault in a stream
  TW_RT_MEMORY = 4,     // no memory left
  TW_RT_CALLBACK = 5,   // the caller's accelerator failed
  TW_RT_INTERNAL = 6,   // our fault
  TW_RT_DEVICE = 7,     // the device does not answer, reports an error, takes too long, or has too little memory
  TW_RT_URI = 8         // the text that names a device is wrong
};

typedef struct {
  int32_t kind;
  char text[1024];  // UTF-8, ends with 0
} tw_rt_error;

// Row-major, packed. dtype: 1 float32, 2 int8, 3 uint8, 4 int32, 5 int64, 6 int16, 7 uint16.
typedef struct {
  int32_t dtype;
  int32_t rank;
  int64_t shape[TW_RT_MAX_RANK];
  void* data;
  uint64_t size;  // bytes
} tw_rt_tensor;

typedef struct {
  const uint8_t* data;
  uint64_t size;
} tw_rt_bytes;

// Summed over the regions of a run.
typedef struct {
  int64_t regions;
  int64_t instructions;
  int64_t matrix_steps, vector_reads;
  int64_t dram_read_bytes, dram_write_bytes, fetch_bytes;
  int64_t cycles;     // of the accelerator; 0 by the fast simulator
  int64_t run_ns;     // all of tw_rt_run; what is neither of the next two is the host operators'
  int64_t pack_ns;    // tensors into the regions' segments and back
  int64_t device_ns;  // from handing a region to the device until its results are there
} tw_rt_stats;

// Runs region number `region` in place of the fast simulator: reads its input segment, fills its output segment.
// Returns 0, or another number after which the run fails with TW_RT_CALLBACK.
typedef int32_t (*tw_rt_accelerator)(void* context, uint32_t region, const uint8_t* inputs, uint64_t input_bytes,
                                     uint8_t* outputs, uint64_t output_bytes);

TW_RT_API int32_t tw_rt_abi(void);
// `regions` holds three byte strings a region: its record, stream, constants. All bytes are copied.
TW_RT_API int32_t tw_rt_open(tw_rt_bytes program, const tw_rt_bytes* regions, uint32_t n_regions, tw_program** out,
                             tw_rt_error* error);
TW_RT_API void tw_rt_close(tw_program* program);
// Runs the regions on another device, by its text (`sim`, `zynq:registers=..,memory=..`; see device.h). Streams and
// constants get their place here and are written there by the first run, once. After an error the program stays on the device that it had.
TW_RT_API int32_t tw_rt_open_device(tw_program* program, const char* uri, tw_rt_error* error);
// Null: the fast simulator (also the state after tw_rt_open).
TW_RT_API void tw_rt_set_accelerator(tw_program* program, tw_rt_accelerator run, void* context);
// Inputs in the program's order. `stats` may be null.
TW_RT_API int32_t tw_rt_run(tw_program* program, const tw_rt_tensor* inputs, uint32_t n_inputs, tw_rt_stats* stats,
                            tw_rt_error* error);
TW_RT_API uint32_t tw_rt_outputs(const tw_program* program);
// Output of the last run; the data lives until the next run or tw_rt_close. TW_RT_DATA: there is none.
TW_RT_API int32_t tw_rt_output(const tw_program* program, uint32_t index, tw_rt_tensor* out);

#ifdef __cplusplus
}
#endif

#endif  // TILEWRIGHT_RUNTIME_C_H_
