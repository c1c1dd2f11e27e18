// C interface of the package file: checks it and finds what tw_rt_open needs. No function throws.
#ifndef TILEWRIGHT_PACKAGE_C_H_
#define TILEWRIGHT_PACKAGE_C_H_

#include "tilewright/runtime_c.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tw_package tw_package;

// The bytes of a .twp file, which are copied. TW_RT_PACKAGE: what is wrong with them.
TW_RT_API int32_t tw_package_open(tw_rt_bytes file, tw_package** out, tw_rt_error* error);
TW_RT_API void tw_package_close(tw_package* package);
// Texts and bytes live until tw_package_close.
TW_RT_API const char* tw_package_name(const tw_package* package);
TW_RT_API const char* tw_package_overlay(const tw_package* package);
TW_RT_API const char* tw_package_overlay_hash(const tw_package* package);  // SHA-256, 64 hexadecimal digits
// What tw_rt_open takes.
TW_RT_API tw_rt_bytes tw_package_program(const tw_package* package);
TW_RT_API uint32_t tw_package_regions(const tw_package* package, const tw_rt_bytes** regions);

enum tw_package_edge { TW_PACKAGE_INPUT = 0, TW_PACKAGE_OUTPUT = 1 };
TW_RT_API uint32_t tw_package_tensors(const tw_package* package, enum tw_package_edge edge);
// Type and shape as a run takes or gives them, a batch's images first; -1: known after a run only. `data` is null. The
// name, or null where there is no such tensor.
TW_RT_API const char* tw_package_tensor(const tw_package* package, enum tw_package_edge edge, uint32_t index,
                                        tw_rt_tensor* out);

#ifdef __cplusplus
}
#endif

#endif  // TILEWRIGHT_PACKAGE_C_H_
