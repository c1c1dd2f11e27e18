// C interface of the fast simulator, for ctypes. No function throws.
#ifndef TILEWRIGHT_SIMULATOR_C_H_
#define TILEWRIGHT_SIMULATOR_C_H_

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define TW_SIM_API __declspec(dllexport)
#else
#define TW_SIM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

// Raised whenever a struct or a signature below changes; the binding compares it.
#define TW_SIM_ABI 1

typedef struct tw_sim tw_sim;

typedef struct {
  int32_t block_in, block_out, inp_bits, wgt_bits, acc_bits;
  int32_t act_half_words, wgt_tiles, acc_vectors, param_records, disp_entries;
  int32_t displacement_min, displacement_max;
} tw_sim_overlay;

typedef struct {
  uint8_t* data;
  uint64_t size;
} tw_sim_segment;

typedef struct {
  int32_t kind;         // FaultKind
  int64_t instruction;  // -1: none
  int64_t other;        // -1: none
  char text[512];       // UTF-8, ends with 0
} tw_sim_fault;

typedef struct {
  int64_t instructions[4];
  int64_t matrix_steps, vector_reads;
  int64_t dram_read_bytes, dram_write_bytes, fetch_bytes;
} tw_sim_stats;

TW_SIM_API int32_t tw_sim_abi(void);
// Null on a fault, which is then filled.
TW_SIM_API tw_sim* tw_sim_create(const tw_sim_overlay* overlay, tw_sim_fault* fault);
TW_SIM_API void tw_sim_destroy(tw_sim* sim);
// `segments`: constants, workspace, inputs, outputs. Returns the kind of the fault, 0 for none.
TW_SIM_API int32_t tw_sim_run(tw_sim* sim, const uint8_t* stream, uint64_t size,
                              const tw_sim_segment segments[4], tw_sim_stats* stats, tw_sim_fault* fault);
// After a run: 1 for each of the first `count` bytes of the outputs that a STORE wrote, else 0.
TW_SIM_API void tw_sim_output_written(const tw_sim* sim, uint8_t* written, uint64_t count);
TW_SIM_API int32_t tw_sim_simd_level(const tw_sim* sim);
TW_SIM_API int32_t tw_sim_set_simd_level(tw_sim* sim, int32_t level);  // 0: not supported here
TW_SIM_API const char* tw_sim_simd_level_name(int32_t level);          // null: no such level
TW_SIM_API int32_t tw_sim_simd_level_supported(int32_t level);
TW_SIM_API const char* tw_sim_fault_kind_name(int32_t kind);  // null: no such kind

#ifdef __cplusplus
}
#endif

#endif  // TILEWRIGHT_SIMULATOR_C_H_
