// The instruction set of the Tilewright machine. Printed by `python -m tilewright.targets.isa.header`
// from targets/isa/spec.py, which tells what the instructions do; do not edit.
#ifndef TILEWRIGHT_TARGETS_ISA_ISA_H_
#define TILEWRIGHT_TARGETS_ISA_ISA_H_

#include <cstddef>
#include <cstdint>

namespace tilewright {
namespace isa {

constexpr int kInstructionBits = 512;
constexpr int kInstructionBytes = 64;
constexpr int kOpcodeBits = 3;
constexpr int kRecordBytes = 16;
constexpr int kTokenMax = 255;

// A field: the bits [offset, offset + width) of an instruction, bit 0 the lowest of byte 0.
struct Field {
  const char* name;
  int offset;
  int width;
  bool is_signed;
  std::int64_t lo;  // smallest legal value
  std::int64_t hi;  // largest legal value
  const char* doc;
};

// Bits [offset, offset + width) of 64 little-endian bytes, width <= 32.
inline std::uint64_t GetBits(const std::uint8_t* bytes, int offset, int width) {
  std::uint64_t value = 0;
  const int last = (offset + width - 1) / 8;
  for (int i = last; i >= offset / 8; --i) value = value << 8 | bytes[i];
  return value >> (offset % 8) & ((std::uint64_t{1} << width) - 1);
}

inline std::int64_t GetSigned(const std::uint8_t* bytes, int offset, int width) {
  const std::uint64_t value = GetBits(bytes, offset, width);
  const std::uint64_t sign = std::uint64_t{1} << (width - 1);
  return static_cast<std::int64_t>(value ^ sign) - static_cast<std::int64_t>(sign);
}

inline int GetOpcode(const std::uint8_t* bytes) {
  return static_cast<int>(GetBits(bytes, 0, kOpcodeBits));
}

enum class Unit : std::uint8_t {
  kLoad = 0,
  kMatrix = 1,
  kVector = 2,
  kStore = 3,
};
constexpr int kUnitFirst = 0;
constexpr const char* kUnitNames[] = {"LOAD", "MATRIX", "VECTOR", "STORE"};  // from kUnitFirst up

enum class Opcode : std::uint8_t {
  kLoad = 1,
  kMatrix = 2,
  kVector = 3,
  kStore = 4,
  kFinish = 5,
};
constexpr int kOpcodeFirst = 1;
constexpr const char* kOpcodeNames[] = {"LOAD", "MATRIX", "VECTOR", "STORE", "FINISH"};  // from kOpcodeFirst up

enum class Memory : std::uint8_t {
  kAct = 0,
  kWgt = 1,
  kParam = 2,
  kDisp = 3,
};
constexpr int kMemoryFirst = 0;
constexpr const char* kMemoryNames[] = {"ACT", "WGT", "PARAM", "DISP"};  // from kMemoryFirst up

enum class Base : std::uint8_t {
  kConstant = 0,
  kWorkspace = 1,
  kInput = 2,
  kOutput = 3,
};
constexpr int kBaseFirst = 0;
constexpr const char* kBaseNames[] = {"CONSTANT", "WORKSPACE", "INPUT", "OUTPUT"};  // from kBaseFirst up

enum class VectorOp : std::uint8_t {
  kSum = 0,
  kMax = 1,
  kScaledAdd = 2,
  kMultiply = 3,
  kDepthwise = 4,
};
constexpr int kVectorOpFirst = 0;
constexpr const char* kVectorOpNames[] = {"SUM", "MAX", "SCALED_ADD", "MULTIPLY", "DEPTHWISE"};  // from kVectorOpFirst up

enum class Source : std::uint8_t {
  kAct = 0,
  kAcc = 1,
};
constexpr int kSourceFirst = 0;
constexpr const char* kSourceNames[] = {"ACT", "ACC"};  // from kSourceFirst up

enum class Loop : std::uint8_t {
  kOc = 0,
  kIc = 1,
  kKy = 2,
  kKx = 3,
  kY = 4,
  kX = 5,
};
constexpr int kLoopFirst = 0;
constexpr const char* kLoopNames[] = {"OC", "IC", "KY", "KX", "Y", "X"};  // from kLoopFirst up

struct Load {
  std::uint32_t wait;  // units whose token is awaited before the start, one bit each
  std::uint32_t give;  // units that get a token when this retires, one bit each
  std::uint32_t base;  // DRAM base register
  std::uint32_t dram_offset;  // bytes from the base register
  std::uint32_t dram_stride0;  // bytes
  std::uint32_t dram_stride1;  // bytes
  std::uint32_t dram_stride2;  // bytes
  std::uint32_t address;  // scratchpad address of element (0, 0, 0)
  std::uint32_t stride0;  // scratchpad units
  std::uint32_t stride1;  // scratchpad units
  std::uint32_t stride2;  // scratchpad units
  std::uint32_t n0;  // outer count
  std::uint32_t n1;  // middle count
  std::uint32_t n2;  // inner count
  std::uint32_t memory;  // scratchpad written
};

constexpr int kLoadBits = 247;  // those from here up are 0

inline Load DecodeLoad(const std::uint8_t* bytes) {
  Load x;
  x.wait = static_cast<std::uint32_t>(GetBits(bytes, 3, 4));
  x.give = static_cast<std::uint32_t>(GetBits(bytes, 7, 4));
  x.base = static_cast<std::uint32_t>(GetBits(bytes, 11, 2));
  x.dram_offset = static_cast<std::uint32_t>(GetBits(bytes, 13, 32));
  x.dram_stride0 = static_cast<std::uint32_t>(GetBits(bytes, 45, 32));
  x.dram_stride1 = static_cast<std::uint32_t>(GetBits(bytes, 77, 32));
  x.dram_stride2 = static_cast<std::uint32_t>(GetBits(bytes, 109, 32));
  x.address = static_cast<std::uint32_t>(GetBits(bytes, 141, 16));
  x.stride0 = static_cast<std::uint32_t>(GetBits(bytes, 157, 16));
  x.stride1 = static_cast<std::uint32_t>(GetBits(bytes, 173, 16));
  x.stride2 = static_cast<std::uint32_t>(GetBits(bytes, 189, 16));
  x.n0 = static_cast<std::uint32_t>(GetBits(bytes, 205, 12));
  x.n1 = static_cast<std::uint32_t>(GetBits(bytes, 217, 12));
  x.n2 = static_cast<std::uint32_t>(GetBits(bytes, 229, 16));
  x.memory = static_cast<std::uint32_t>(GetBits(bytes, 245, 2));
  return x;
}

constexpr Field kLoadFields[] = {
    {"wait", 3, 4, false, 0, 15, "units whose token is awaited before the start, one bit each"},
    {"give", 7, 4, false, 0, 15, "units that get a token when this retires, one bit each"},
    {"base", 11, 2, false, 0, 3, "DRAM base register"},
    {"dram_offset", 13, 32, false, 0, 4294967295, "bytes from the base register"},
    {"dram_stride0", 45, 32, false, 0, 4294967295, "bytes"},
    {"dram_stride1", 77, 32, false, 0, 4294967295, "bytes"},
    {"dram_stride2", 109, 32, false, 0, 4294967295, "bytes"},
    {"address", 141, 16, false, 0, 65535, "scratchpad address of element (0, 0, 0)"},
    {"stride0", 157, 16, false, 0, 65535, "scratchpad units"},
    {"stride1", 173, 16, false, 0, 65535, "scratchpad units"},
    {"stride2", 189, 16, false, 0, 65535, "scratchpad units"},
    {"n0", 205, 12, false, 1, 4095, "outer count"},
    {"n1", 217, 12, false, 1, 4095, "middle count"},
    {"n2", 229, 16, false, 1, 65535, "inner count"},
    {"memory", 245, 2, false, 0, 3, "scratchpad written"},
};

struct Matrix {
  std::uint32_t wait;  // units whose token is awaited before the start, one bit each
  std::uint32_t give;  // units that get a token when this retires, one bit each
  std::uint32_t n_oc;  // output blocks of block_out
  std::uint32_t n_ic;  // input blocks of block_in
  std::uint32_t n_ky;  // kernel rows
  std::uint32_t n_kx;  // kernel columns
  std::uint32_t n_y;  // output rows
  std::uint32_t n_x;  // output columns
  std::uint32_t order_0;  // outermost counter
  std::uint32_t order_1;  // counter
  std::uint32_t order_2;  // counter
  std::uint32_t order_3;  // counter
  std::uint32_t order_4;  // counter
  std::uint32_t order_5;  // innermost counter
  std::uint32_t wgt_base;  // tile of counters 0
  std::uint32_t wgt_oc;  // tiles per output block
  std::uint32_t wgt_ic;  // tiles per input block
  std::uint32_t wgt_ky;  // tiles per kernel row
  std::uint32_t wgt_kx;  // tiles per kernel column
  std::uint32_t acc_base;  // vector of counters 0
  std::uint32_t acc_oc;  // vectors per output block
  std::uint32_t acc_y;  // vectors per row
  std::uint32_t acc_x;  // vectors per column
  std::uint32_t act_base;  // half word of map row 0 (ring row 0), column 0, block 0
  std::uint32_t act_row;  // half words per row
  std::uint32_t act_x;  // half words per column
  std::uint32_t act_ic;  // half words per input block
  std::uint32_t ring;  // rows after which the buffer wraps; 0: never
  std::uint32_t ic_first;  // first input block of output block 0
  std::uint32_t ic_stride_o;  // input blocks from one output block's first to the next's
  std::uint32_t stride_y;  // rows
  std::uint32_t stride_x;  // columns
  std::uint32_t dilation_y;  // rows
  std::uint32_t dilation_x;  // columns
  std::int32_t offset_y;  // map row read by counters 0
  std::int32_t offset_x;  // map column read by counters 0
  std::uint32_t height;  // rows of the map
  std::uint32_t width;  // columns of the map
  std::uint32_t pad;  // value outside the map
  std::uint32_t displaced;  // lanes read at (dy, dx)
  std::uint32_t disp_base;  // entry of block 0
  std::uint32_t fresh;  // the first step at a vector overwrites it
  std::uint32_t w_signed;  // quarters of block_in whose weights are signed, one bit each
  std::uint32_t lane_shift;  // quarters' sums are shifted 0, h, h, 2h
  std::uint32_t shift;  // left shift of a step's sum, bits
};

constexpr int kMatrixBits = 359;  // those from here up are 0

inline Matrix DecodeMatrix(const std::uint8_t* bytes) {
  Matrix x;
  x.wait = static_cast<std::uint32_t>(GetBits(bytes, 3, 4));
  x.give = static_cast<std::uint32_t>(GetBits(bytes, 7, 4));
  x.n_oc = static_cast<std::uint32_t>(GetBits(bytes, 11, 8));
  x.n_ic = static_cast<std::uint32_t>(GetBits(bytes, 19, 10));
  x.n_ky = static_cast<std::uint32_t>(GetBits(bytes, 29, 5));
  x.n_kx = static_cast<std::uint32_t>(GetBits(bytes, 34, 5));
  x.n_y = static_cast<std::uint32_t>(GetBits(bytes, 39, 11));
  x.n_x = static_cast<std::uint32_t>(GetBits(bytes, 50, 11));
  x.order_0 = static_cast<std::uint32_t>(GetBits(bytes, 61, 3));
  x.order_1 = static_cast<std::uint32_t>(GetBits(bytes, 64, 3));
  x.order_2 = static_cast<std::uint32_t>(GetBits(bytes, 67, 3));
  x.order_3 = static_cast<std::uint32_t>(GetBits(bytes, 70, 3));
  x.order_4 = static_cast<std::uint32_t>(GetBits(bytes, 73, 3));
  x.order_5 = static_cast<std::uint32_t>(GetBits(bytes, 76, 3));
  x.wgt_base = static_cast<std::uint32_t>(GetBits(bytes, 79, 12));
  x.wgt_oc = static_cast<std::uint32_t>(GetBits(bytes, 91, 12));
  x.wgt_ic = static_cast<std::uint32_t>(GetBits(bytes, 103, 12));
  x.wgt_ky = static_cast<std::uint32_t>(GetBits(bytes, 115, 12));
  x.wgt_kx = static_cast<std::uint32_t>(GetBits(bytes, 127, 12));
  x.acc_base = static_cast<std::uint32_t>(GetBits(bytes, 139, 10));
  x.acc_oc = static_cast<std::uint32_t>(GetBits(bytes, 149, 10));
  x.acc_y = static_cast<std::uint32_t>(GetBits(bytes, 159, 10));
  x.acc_x = static_cast<std::uint32_t>(GetBits(bytes, 169, 10));
  x.act_base = static_cast<std::uint32_t>(GetBits(bytes, 179, 16));
  x.act_row = static_cast<std::uint32_t>(GetBits(bytes, 195, 16));
  x.act_x = static_cast<std::uint32_t>(GetBits(bytes, 211, 12));
  x.act_ic = static_cast<std::uint32_t>(GetBits(bytes, 223, 12));
  x.ring = static_cast<std::uint32_t>(GetBits(bytes, 235, 12));
  x.ic_first = static_cast<std::uint32_t>(GetBits(bytes, 247, 8));
  x.ic_stride_o = static_cast<std::uint32_t>(GetBits(bytes, 255, 8));
  x.stride_y = static_cast<std::uint32_t>(GetBits(bytes, 263, 4));
  x.stride_x = static_cast<std::uint32_t>(GetBits(bytes, 267, 4));
  x.dilation_y = static_cast<std::uint32_t>(GetBits(bytes, 271, 5));
  x.dilation_x = static_cast<std::uint32_t>(GetBits(bytes, 276, 5));
  x.offset_y = static_cast<std::int32_t>(GetSigned(bytes, 281, 14));
  x.offset_x = static_cast<std::int32_t>(GetSigned(bytes, 295, 14));
  x.height = static_cast<std::uint32_t>(GetBits(bytes, 309, 12));
  x.width = static_cast<std::uint32_t>(GetBits(bytes, 321, 12));
  x.pad = static_cast<std::uint32_t>(GetBits(bytes, 333, 8));
  x.displaced = static_cast<std::uint32_t>(GetBits(bytes, 341, 1));
  x.disp_base = static_cast<std::uint32_t>(GetBits(bytes, 342, 6));
  x.fresh = static_cast<std::uint32_t>(GetBits(bytes, 348, 1));
  x.w_signed = static_cast<std::uint32_t>(GetBits(bytes, 349, 4));
  x.lane_shift = static_cast<std::uint32_t>(GetBits(bytes, 353, 1));
  x.shift = static_cast<std::uint32_t>(GetBits(bytes, 354, 5));
  return x;
}

constexpr Field kMatrixFields[] = {
    {"wait", 3, 4, false, 0, 15, "units whose token is awaited before the start, one bit each"},
    {"give", 7, 4, false, 0, 15, "units that get a token when this retires, one bit each"},
    {"n_oc", 11, 8, false, 1, 255, "output blocks of block_out"},
    {"n_ic", 19, 10, false, 1, 1023, "input blocks of block_in"},
    {"n_ky", 29, 5, false, 1, 31, "kernel rows"},
    {"n_kx", 34, 5, false, 1, 31, "kernel columns"},
    {"n_y", 39, 11, false, 1, 2047, "output rows"},
    {"n_x", 50, 11, false, 1, 2047, "output columns"},
    {"order_0", 61, 3, false, 0, 5, "outermost counter"},
    {"order_1", 64, 3, false, 0, 5, "counter"},
    {"order_2", 67, 3, false, 0, 5, "counter"},
    {"order_3", 70, 3, false, 0, 5, "counter"},
    {"order_4", 73, 3, false, 0, 5, "counter"},
    {"order_5", 76, 3, false, 0, 5, "innermost counter"},
    {"wgt_base", 79, 12, false, 0, 4095, "tile of counters 0"},
    {"wgt_oc", 91, 12, false, 0, 4095, "tiles per output block"},
    {"wgt_ic", 103, 12, false, 0, 4095, "tiles per input block"},
    {"wgt_ky", 115, 12, false, 0, 4095, "tiles per kernel row"},
    {"wgt_kx", 127, 12, false, 0, 4095, "tiles per kernel column"},
    {"acc_base", 139, 10, false, 0, 1023, "vector of counters 0"},
    {"acc_oc", 149, 10, false, 0, 1023, "vectors per output block"},
    {"acc_y", 159, 10, false, 0, 1023, "vectors per row"},
    {"acc_x", 169, 10, false, 0, 1023, "vectors per column"},
    {"act_base", 179, 16, false, 0, 65535, "half word of map row 0 (ring row 0), column 0, block 0"},
    {"act_row", 195, 16, false, 0, 65535, "half words per row"},
    {"act_x", 211, 12, false, 0, 4095, "half words per column"},
    {"act_ic", 223, 12, false, 0, 4095, "half words per input block"},
    {"ring", 235, 12, false, 0, 4095, "rows after which the buffer wraps; 0: never"},
    {"ic_first", 247, 8, false, 0, 255, "first input block of output block 0"},
    {"ic_stride_o", 255, 8, false, 0, 255, "input blocks from one output block's first to the next's"},
    {"stride_y", 263, 4, false, 1, 15, "rows"},
    {"stride_x", 267, 4, false, 1, 15, "columns"},
    {"dilation_y", 271, 5, false, 1, 31, "rows"},
    {"dilation_x", 276, 5, false, 1, 31, "columns"},
    {"offset_y", 281, 14, true, -8192, 8191, "map row read by counters 0"},
    {"offset_x", 295, 14, true, -8192, 8191, "map column read by counters 0"},
    {"height", 309, 12, false, 1, 4095, "rows of the map"},
    {"width", 321, 12, false, 1, 4095, "columns of the map"},
    {"pad", 333, 8, false, 0, 255, "value outside the map"},
    {"displaced", 341, 1, false, 0, 1, "lanes read at (dy, dx)"},
    {"disp_base", 342, 6, false, 0, 63, "entry of block 0"},
    {"fresh", 348, 1, false, 0, 1, "the first step at a vector overwrites it"},
    {"w_signed", 349, 4, false, 0, 15, "quarters of block_in whose weights are signed, one bit each"},
    {"lane_shift", 353, 1, false, 0, 1, "quarters' sums are shifted 0, h, h, 2h"},
    {"shift", 354, 5, false, 0, 31, "left shift of a step's sum, bits"},
};

struct Vector {
  std::uint32_t wait;  // units whose token is awaited before the start, one bit each
  std::uint32_t give;  // units that get a token when this retires, one bit each
  std::uint32_t op;  // operation
  std::uint32_t source;  // memory of the first operand
  std::uint32_t n_c;  // half words of channels
  std::uint32_t n_y;  // output rows
  std::uint32_t n_x;  // output columns
  std::uint32_t kernel_y;  // window rows
  std::uint32_t kernel_x;  // window columns
  std::uint32_t stride_y;  // rows
  std::uint32_t stride_x;  // columns
  std::uint32_t dilation_y;  // rows
  std::uint32_t dilation_x;  // columns
  std::int32_t offset_y;  // map row read by counters 0
  std::int32_t offset_x;  // map column read by counters 0
  std::uint32_t height;  // rows of the map
  std::uint32_t width;  // columns of the map
  std::uint32_t src_base;  // half word or vector of row 0, column 0, channel 0
  std::uint32_t src_row;  // half words or vectors per row
  std::uint32_t src_x;  // half words or vectors per column
  std::uint32_t src_c;  // half words per channel half word, or vectors per R of them
  std::uint32_t ring;  // rows after which the source buffers wrap; 0: never
  std::uint32_t src2_base;  // half word of row 0, column 0, channel 0
  std::uint32_t src2_row;  // half words per row; 0 broadcasts
  std::uint32_t src2_x;  // half words per column; 0 broadcasts
  std::uint32_t src2_c;  // half words per channel half word
  std::uint32_t dst_base;  // half word of row 0, column 0, channel 0
  std::uint32_t dst_row;  // half words per row
  std::uint32_t dst_x;  // half words per column
  std::uint32_t dst_c;  // half words per channel half word
  std::uint32_t dst_ring;  // rows after which the destination wraps; 0: never
  std::uint32_t dst_y;  // row written by counter 0
  std::uint32_t param_base;  // record of channel half word 0, lane 0
  std::uint32_t param_c;  // records per channel half word; 0 shares one set
  std::uint32_t depthwise_base;  // record of channel half word 0, tap 0
  std::uint32_t depthwise_c;  // records per channel half word
  std::uint32_t table;  // look the result up
  std::uint32_t table_base;  // record of the table's byte 0
  std::uint32_t negative;  // the second set serves results below out_zp
  std::uint32_t lo;  // smallest result
  std::uint32_t hi;  // largest result
  std::uint32_t src_zp;  // zero point of the first operand
  std::uint32_t src2_zp;  // zero point of the second operand
  std::uint32_t out_zp;  // zero point of the result, for `negative`
  std::uint32_t in_planes;  // planes of the first operand, log2
  std::uint32_t out_planes;  // planes of the result, log2
  std::uint32_t in2_planes;  // planes of the second operand, log2
  std::uint32_t src_plane;  // half words from a plane of the first operand to the next
  std::uint32_t src2_plane;  // half words from a plane of the second operand to the next
  std::uint32_t dst_plane;  // half words from a plane of the result to the next
};

constexpr int kVectorBits = 512;  // those from here up are 0

inline Vector DecodeVector(const std::uint8_t* bytes) {
  Vector x;
  x.wait = static_cast<std::uint32_t>(GetBits(bytes, 3, 4));
  x.give = static_cast<std::uint32_t>(GetBits(bytes, 7, 4));
  x.op = static_cast<std::uint32_t>(GetBits(bytes, 11, 3));
  x.source = static_cast<std::uint32_t>(GetBits(bytes, 14, 1));
  x.n_c = static_cast<std::uint32_t>(GetBits(bytes, 15, 8));
  x.n_y = static_cast<std::uint32_t>(GetBits(bytes, 23, 11));
  x.n_x = static_cast<std::uint32_t>(GetBits(bytes, 34, 11));
  x.kernel_y = static_cast<std::uint32_t>(GetBits(bytes, 45, 7));
  x.kernel_x = static_cast<std::uint32_t>(GetBits(bytes, 52, 7));
  x.stride_y = static_cast<std::uint32_t>(GetBits(bytes, 59, 4));
  x.stride_x = static_cast<std::uint32_t>(GetBits(bytes, 63, 4));
  x.dilation_y = static_cast<std::uint32_t>(GetBits(bytes, 67, 5));
  x.dilation_x = static_cast<std::uint32_t>(GetBits(bytes, 72, 5));
  x.offset_y = static_cast<std::int32_t>(GetSigned(bytes, 77, 14));
  x.offset_x = static_cast<std::int32_t>(GetSigned(bytes, 91, 14));
  x.height = static_cast<std::uint32_t>(GetBits(bytes, 105, 12));
  x.width = static_cast<std::uint32_t>(GetBits(bytes, 117, 12));
  x.src_base = static_cast<std::uint32_t>(GetBits(bytes, 129, 16));
  x.src_row = static_cast<std::uint32_t>(GetBits(bytes, 145, 16));
  x.src_x = static_cast<std::uint32_t>(GetBits(bytes, 161, 12));
  x.src_c = static_cast<std::uint32_t>(GetBits(bytes, 173, 12));
  x.ring = static_cast<std::uint32_t>(GetBits(bytes, 185, 12));
  x.src2_base = static_cast<std::uint32_t>(GetBits(bytes, 197, 16));
  x.src2_row = static_cast<std::uint32_t>(GetBits(bytes, 213, 16));
  x.src2_x = static_cast<std::uint32_t>(GetBits(bytes, 229, 12));
  x.src2_c = static_cast<std::uint32_t>(GetBits(bytes, 241, 12));
  x.dst_base = static_cast<std::uint32_t>(GetBits(bytes, 253, 16));
  x.dst_row = static_cast<std::uint32_t>(GetBits(bytes, 269, 16));
  x.dst_x = static_cast<std::uint32_t>(GetBits(bytes, 285, 12));
  x.dst_c = static_cast<std::uint32_t>(GetBits(bytes, 297, 12));
  x.dst_ring = static_cast<std::uint32_t>(GetBits(bytes, 309, 12));
  x.dst_y = static_cast<std::uint32_t>(GetBits(bytes, 321, 12));
  x.param_base = static_cast<std::uint32_t>(GetBits(bytes, 333, 12));
  x.param_c = static_cast<std::uint32_t>(GetBits(bytes, 345, 12));
  x.depthwise_base = static_cast<std::uint32_t>(GetBits(bytes, 357, 12));
  x.depthwise_c = static_cast<std::uint32_t>(GetBits(bytes, 369, 12));
  x.table = static_cast<std::uint32_t>(GetBits(bytes, 381, 1));
  x.table_base = static_cast<std::uint32_t>(GetBits(bytes, 382, 12));
  x.negative = static_cast<std::uint32_t>(GetBits(bytes, 394, 1));
  x.lo = static_cast<std::uint32_t>(GetBits(bytes, 395, 16));
  x.hi = static_cast<std::uint32_t>(GetBits(bytes, 411, 16));
  x.src_zp = static_cast<std::uint32_t>(GetBits(bytes, 427, 16));
  x.src2_zp = static_cast<std::uint32_t>(GetBits(bytes, 443, 16));
  x.out_zp = static_cast<std::uint32_t>(GetBits(bytes, 459, 16));
  x.in_planes = static_cast<std::uint32_t>(GetBits(bytes, 475, 2));
  x.out_planes = static_cast<std::uint32_t>(GetBits(bytes, 477, 3));
  x.in2_planes = static_cast<std::uint32_t>(GetBits(bytes, 480, 2));
  x.src_plane = static_cast<std::uint32_t>(GetBits(bytes, 482, 10));
  x.src2_plane = static_cast<std::uint32_t>(GetBits(bytes, 492, 10));
  x.dst_plane = static_cast<std::uint32_t>(GetBits(bytes, 502, 10));
  return x;
}

constexpr Field kVectorFields[] = {
    {"wait", 3, 4, false, 0, 15, "units whose token is awaited before the start, one bit each"},
    {"give", 7, 4, false, 0, 15, "units that get a token when this retires, one bit each"},
    {"op", 11, 3, false, 0, 4, "operation"},
    {"source", 14, 1, false, 0, 1, "memory of the first operand"},
    {"n_c", 15, 8, false, 1, 255, "half words of channels"},
    {"n_y", 23, 11, false, 1, 2047, "output rows"},
    {"n_x", 34, 11, false, 1, 2047, "output columns"},
    {"kernel_y", 45, 7, false, 1, 127, "window rows"},
    {"kernel_x", 52, 7, false, 1, 127, "window columns"},
    {"stride_y", 59, 4, false, 1, 15, "rows"},
    {"stride_x", 63, 4, false, 1, 15, "columns"},
    {"dilation_y", 67, 5, false, 1, 31, "rows"},
    {"dilation_x", 72, 5, false, 1, 31, "columns"},
    {"offset_y", 77, 14, true, -8192, 8191, "map row read by counters 0"},
    {"offset_x", 91, 14, true, -8192, 8191, "map column read by counters 0"},
    {"height", 105, 12, false, 1, 4095, "rows of the map"},
    {"width", 117, 12, false, 1, 4095, "columns of the map"},
    {"src_base", 129, 16, false, 0, 65535, "half word or vector of row 0, column 0, channel 0"},
    {"src_row", 145, 16, false, 0, 65535, "half words or vectors per row"},
    {"src_x", 161, 12, false, 0, 4095, "half words or vectors per column"},
    {"src_c", 173, 12, false, 0, 4095, "half words per channel half word, or vectors per R of them"},
    {"ring", 185, 12, false, 0, 4095, "rows after which the source buffers wrap; 0: never"},
    {"src2_base", 197, 16, false, 0, 65535, "half word of row 0, column 0, channel 0"},
    {"src2_row", 213, 16, false, 0, 65535, "half words per row; 0 broadcasts"},
    {"src2_x", 229, 12, false, 0, 4095, "half words per column; 0 broadcasts"},
    {"src2_c", 241, 12, false, 0, 4095, "half words per channel half word"},
    {"dst_base", 253, 16, false, 0, 65535, "half word of row 0, column 0, channel 0"},
    {"dst_row", 269, 16, false, 0, 65535, "half words per row"},
    {"dst_x", 285, 12, false, 0, 4095, "half words per column"},
    {"dst_c", 297, 12, false, 0, 4095, "half words per channel half word"},
    {"dst_ring", 309, 12, false, 0, 4095, "rows after which the destination wraps; 0: never"},
    {"dst_y", 321, 12, false, 0, 4095, "row written by counter 0"},
    {"param_base", 333, 12, false, 0, 4095, "record of channel half word 0, lane 0"},
    {"param_c", 345, 12, false, 0, 4095, "records per channel half word; 0 shares one set"},
    {"depthwise_base", 357, 12, false, 0, 4095, "record of channel half word 0, tap 0"},
    {"depthwise_c", 369, 12, false, 0, 4095, "records per channel half word"},
    {"table", 381, 1, false, 0, 1, "look the result up"},
    {"table_base", 382, 12, false, 0, 4095, "record of the table's byte 0"},
    {"negative", 394, 1, false, 0, 1, "the second set serves results below out_zp"},
    {"lo", 395, 16, false, 0, 65535, "smallest result"},
    {"hi", 411, 16, false, 0, 65535, "largest result"},
    {"src_zp", 427, 16, false, 0, 65535, "zero point of the first operand"},
    {"src2_zp", 443, 16, false, 0, 65535, "zero point of the second operand"},
    {"out_zp", 459, 16, false, 0, 65535, "zero point of the result, for `negative`"},
    {"in_planes", 475, 2, false, 0, 3, "planes of the first operand, log2"},
    {"out_planes", 477, 3, false, 0, 7, "planes of the result, log2"},
    {"in2_planes", 480, 2, false, 0, 3, "planes of the second operand, log2"},
    {"src_plane", 482, 10, false, 0, 1023, "half words from a plane of the first operand to the next"},
    {"src2_plane", 492, 10, false, 0, 1023, "half words from a plane of the second operand to the next"},
    {"dst_plane", 502, 10, false, 0, 1023, "half words from a plane of the result to the next"},
};

struct Store {
  std::uint32_t wait;  // units whose token is awaited before the start, one bit each
  std::uint32_t give;  // units that get a token when this retires, one bit each
  std::uint32_t base;  // DRAM base register
  std::uint32_t dram_offset;  // bytes from the base register
  std::uint32_t dram_stride0;  // bytes
  std::uint32_t dram_stride1;  // bytes
  std::uint32_t dram_stride2;  // bytes
  std::uint32_t address;  // scratchpad address of element (0, 0, 0)
  std::uint32_t stride0;  // scratchpad units
  std::uint32_t stride1;  // scratchpad units
  std::uint32_t stride2;  // scratchpad units
  std::uint32_t n0;  // outer count
  std::uint32_t n1;  // middle count
  std::uint32_t n2;  // inner count
};

constexpr int kStoreBits = 245;  // those from here up are 0

inline Store DecodeStore(const std::uint8_t* bytes) {
  Store x;
  x.wait = static_cast<std::uint32_t>(GetBits(bytes, 3, 4));
  x.give = static_cast<std::uint32_t>(GetBits(bytes, 7, 4));
  x.base = static_cast<std::uint32_t>(GetBits(bytes, 11, 2));
  x.dram_offset = static_cast<std::uint32_t>(GetBits(bytes, 13, 32));
  x.dram_stride0 = static_cast<std::uint32_t>(GetBits(bytes, 45, 32));
  x.dram_stride1 = static_cast<std::uint32_t>(GetBits(bytes, 77, 32));
  x.dram_stride2 = static_cast<std::uint32_t>(GetBits(bytes, 109, 32));
  x.address = static_cast<std::uint32_t>(GetBits(bytes, 141, 16));
  x.stride0 = static_cast<std::uint32_t>(GetBits(bytes, 157, 16));
  x.stride1 = static_cast<std::uint32_t>(GetBits(bytes, 173, 16));
  x.stride2 = static_cast<std::uint32_t>(GetBits(bytes, 189, 16));
  x.n0 = static_cast<std::uint32_t>(GetBits(bytes, 205, 12));
  x.n1 = static_cast<std::uint32_t>(GetBits(bytes, 217, 12));
  x.n2 = static_cast<std::uint32_t>(GetBits(bytes, 229, 16));
  return x;
}

constexpr Field kStoreFields[] = {
    {"wait", 3, 4, false, 0, 15, "units whose token is awaited before the start, one bit each"},
    {"give", 7, 4, false, 0, 15, "units that get a token when this retires, one bit each"},
    {"base", 11, 2, false, 0, 3, "DRAM base register"},
    {"dram_offset", 13, 32, false, 0, 4294967295, "bytes from the base register"},
    {"dram_stride0", 45, 32, false, 0, 4294967295, "bytes"},
    {"dram_stride1", 77, 32, false, 0, 4294967295, "bytes"},
    {"dram_stride2", 109, 32, false, 0, 4294967295, "bytes"},
    {"address", 141, 16, false, 0, 65535, "scratchpad address of element (0, 0, 0)"},
    {"stride0", 157, 16, false, 0, 65535, "scratchpad units"},
    {"stride1", 173, 16, false, 0, 65535, "scratchpad units"},
    {"stride2", 189, 16, false, 0, 65535, "scratchpad units"},
    {"n0", 205, 12, false, 1, 4095, "outer count"},
    {"n1", 217, 12, false, 1, 4095, "middle count"},
    {"n2", 229, 16, false, 1, 65535, "inner count"},
};

struct Finish {
  std::uint32_t wait;  // units whose token is awaited before the start, one bit each
  std::uint32_t give;  // units that get a token when this retires, one bit each
};

constexpr int kFinishBits = 11;  // those from here up are 0

inline Finish DecodeFinish(const std::uint8_t* bytes) {
  Finish x;
  x.wait = static_cast<std::uint32_t>(GetBits(bytes, 3, 4));
  x.give = static_cast<std::uint32_t>(GetBits(bytes, 7, 4));
  return x;
}

constexpr Field kFinishFields[] = {
    {"wait", 3, 4, false, 0, 15, "units whose token is awaited before the start, one bit each"},
    {"give", 7, 4, false, 0, 15, "units that get a token when this retires, one bit each"},
};

}  // namespace isa
}  // namespace tilewright

#endif  // TILEWRIGHT_TARGETS_ISA_ISA_H_
