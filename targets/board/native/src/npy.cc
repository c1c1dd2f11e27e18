#include "npy.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace tilewright::runtime {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "arrays are written and read as they lie in memory");

constexpr char kMagic[] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};
constexpr std::size_t kAlignment = 64;

// By the numbers of DType.
constexpr const char* kCodes[] = {"", "f4", "i1", "u1", "i4", "i8", "i2", "u2"};

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

template <typename... Parts>
void Need(bool condition, const std::string& path, const Parts&... parts) {
  if (!condition) Fail(TW_RT_DATA, path, ": ", parts...);
}

// What stands behind a key of the header, a Python dictionary of three entries.
std::string After(const std::string& header, const char* key, const std::string& path) {
  const std::size_t at = header.find(key);
  Need(at != std::string::npos, path, "is no .npy file: its header has no ", key);
  const std::size_t begin = header.find_first_not_of(" ", header.find(':', at) + 1);
  Need(begin != std::string::npos, path, "is no .npy file: nothing follows ", key);
  return header.substr(begin);
}

Shape ParseShape(const std::string& text, const std::string& path) {
  const std::size_t end = text.find(')');
  Need(!text.empty() && text[0] == '(' && end != std::string::npos, path, "is no .npy file: its shape is no tuple");
  Shape shape;
  for (std::size_t at = 1; at < end;) {
    if (text[at] == ' ' || text[at] == ',') {
      ++at;
      continue;
    }
    std::int64_t value = 0;
    const std::size_t begin = at;
    for (; at < end && text[at] >= '0' && text[at] <= '9' && at - begin < 18; ++at) value = value * 10 + (text[at] - '0');
    Need(at > begin, path, "is no .npy file: its shape holds ", text.substr(at, 1));
    shape.push_back(value);
  }
  return shape;
}

}  // namespace

std::vector<std::uint8_t> ReadFile(const std::string& path) {
  const File file(std::fopen(path.c_str(), "rb"), std::fclose);
  Need(file != nullptr, path, "cannot read: ", std::strerror(errno));
  std::vector<std::uint8_t> data;
  std::vector<std::uint8_t> part(1 << 20);
  for (std::size_t got; (got = std::fread(part.data(), 1, part.size(), file.get())) > 0;) {
    data.insert(data.end(), part.begin(), part.begin() + static_cast<std::ptrdiff_t>(got));
  }
  Need(std::ferror(file.get()) == 0, path, "cannot read: ", std::strerror(errno));
  return data;
}

Tensor ReadNpy(const std::string& path) { return ParseNpy(ReadFile(path), path); }

Tensor ParseNpy(const std::vector<std::uint8_t>& data, const std::string& path) {
  Need(data.size() >= 12 && std::memcmp(data.data(), kMagic, sizeof kMagic) == 0, path, "is no .npy file");
  const int version = data[6];
  Need(version >= 1 && version <= 3, path, "version ", version, " of the .npy format, expected 1 to 3");
  std::size_t start = version == 1 ? 10 : 12, size = 0;
  for (std::size_t i = start; i-- > 8;) size = size << 8 | data[i];
  Need(start <= data.size() && size <= data.size() - start, path, "is cut off in its header");
  const std::string header(reinterpret_cast<const char*>(data.data()) + start, size);
  start += size;
  const std::string code = After(header, "'descr'", path).substr(0, 5);
  int type = 0;
  for (int i = 1; i <= static_cast<int>(DType::kUint16); ++i) {
    if (code.size() == 5 && code[0] == '\'' && (code[1] == '<' || code[1] == '|') && code.substr(2, 2) == kCodes[i]) type = i;
  }
  Need(type > 0, path, "expected float32 or integers of the machine's byte order, found ", code,
       "; convert with numpy's astype");
  Need(After(header, "'fortran_order'", path).substr(0, 5) == "False", path,
       "is in Fortran's order; save numpy.ascontiguousarray of it");
  Shape shape = ParseShape(After(header, "'shape'", path), path);
  Need(shape.size() <= TW_RT_MAX_RANK, path, "expected a rank of at most ", TW_RT_MAX_RANK, ", found ", shape.size());
  Tensor tensor(static_cast<DType>(type), std::move(shape));
  Need(tensor.bytes() == data.size() - start, path, "expected ", tensor.bytes(), " bytes behind the header, found ",
       data.size() - start);
  if (tensor.bytes() > 0) std::memcpy(tensor.raw(), data.data() + start, tensor.bytes());
  return tensor;
}

void WriteNpy(const std::string& path, const tw_rt_tensor& tensor) {
  std::string text = "{'descr': '";
  text += DTypeBytes(static_cast<DType>(tensor.dtype)) == 1 ? '|' : '<';
  text += std::string(kCodes[tensor.dtype]) + "', 'fortran_order': False, 'shape': (";
  for (int i = 0; i < tensor.rank; ++i) text += std::to_string(tensor.shape[i]) + (tensor.rank == 1 || i + 1 < tensor.rank ? ", " : "");
  text += "), }";
  const std::size_t head = sizeof kMagic + 4;
  text.append(kAlignment - (head + text.size() + 1) % kAlignment, ' ');
  text += '\n';
  std::string bytes(kMagic, sizeof kMagic);
  bytes += {1, 0, static_cast<char>(text.size() & 0xFF), static_cast<char>(text.size() >> 8)};
  bytes += text;
  const std::string temporary = path + ".tmp";
  {
    File file(std::fopen(temporary.c_str(), "wb"), std::fclose);
    Need(file != nullptr, temporary, "cannot write: ", std::strerror(errno));
    bool good = std::fwrite(bytes.data(), 1, bytes.size(), file.get()) == bytes.size() &&
                std::fwrite(tensor.data, 1, tensor.size, file.get()) == tensor.size;
    good = std::fclose(file.release()) == 0 && good;
    if (!good) {
      const int code = errno;
      std::remove(temporary.c_str());
      Need(false, path, "cannot write: ", std::strerror(code));
    }
  }
  Need(std::rename(temporary.c_str(), path.c_str()) == 0, path, "cannot write: ", std::strerror(errno));
}

}  // namespace tilewright::runtime
