// C interface of the timing simulator, for ctypes. It is in the library of the fast simulator.
#ifndef TILEWRIGHT_TIMING_C_H_
#define TILEWRIGHT_TIMING_C_H_

#include "tilewright/simulator_c.h"

#ifdef __cplusplus
extern "C" {
#endif

// Raised whenever something below changes; the binding compares it.
#define TW_TIMING_ABI 2
#define TW_TIMING_ACTIVITIES 13

typedef struct {
  int32_t values[29];  // TimingConfig in its order
} tw_timing_config;

typedef struct {
  int64_t cycles;
  int64_t activity[4][TW_TIMING_ACTIVITIES];
  int64_t dram_read_bytes, dram_write_bytes, fetch_bytes;
} tw_timing;

TW_SIM_API int32_t tw_timing_abi(void);
// `times`: for each instruction of the stream when it was dispatched, started and retired; or null.
// Returns the kind of the fault, 0 for none.
TW_SIM_API int32_t tw_timing_run(const tw_timing_config* config, const uint8_t* stream, uint64_t size,
                                 int64_t limit, int32_t leap, tw_timing* timing, int64_t* times,
                                 tw_sim_fault* fault);

#ifdef __cplusplus
}
#endif

#endif  // TILEWRIGHT_TIMING_C_H_
