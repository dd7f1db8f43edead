// Reads and writes safetensors files: C++17, this header alone, little-endian.
#pragma once
#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace safetensors {
struct Tensor {
  std::string dtype;  // "F64", "F32", "I64", "BOOL", ...
  std::vector<int64_t> shape;
  std::string bytes;

  template <class T, class To = T> std::vector<To> as() const {  // the numbers
    std::vector<T> x(bytes.size() / sizeof(T));
    std::memcpy(x.data(), bytes.data(), x.size() * sizeof(T));
    return std::vector<To>(x.begin(), x.end());
  }
  std::vector<double> values() const {  // the numbers, whatever they are
    if (dtype == "F64") return as<double>();
    if (dtype == "F32") return as<float, double>();
    if (dtype == "I64") return as<int64_t, double>();
    if (dtype == "BOOL") return as<uint8_t, double>();
    throw std::runtime_error("no reader for " + dtype);
  }
};
using Tensors = std::map<std::string, Tensor>;

// {"name":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},...}
inline Tensors read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string all((std::istreambuf_iterator<char>(file)), {});
  uint64_t size = 0;
  if (all.size() >= 8) std::memcpy(&size, all.data(), 8);
  if (all.size() < 8 || size > all.size() - 8) throw std::runtime_error(path);
  const std::string header = all.substr(8, size), data = all.substr(8 + size);
  size_t at = 0;
  auto text = [&] {  // the next string; names of goldens have no escapes
    size_t from = header.find('"', at) + 1, to = header.find('"', from);
    at = to + 1;
    return header.substr(from, to - from);
  };
  auto numbers = [&] {  // the next list
    std::vector<int64_t> x;
    for (at = header.find('[', at) + 1; header.at(at) != ']'; at++)
      if (header[at] == ',') continue;
      else if (x.empty() || header[at - 1] == ',') x.push_back(header[at] - '0');
      else x.back() = 10 * x.back() + (header[at] - '0');
    return x;
  };
  Tensors tensors;
  while (header.find('"', at) != std::string::npos) {
    std::string name = text();
    Tensor tensor;
    std::vector<int64_t> place{0, 0};
    while (header.find('"', at) < header.find('}', at)) {
      std::string key = text();
      if (key == "shape") tensor.shape = numbers();
      else if (key == "data_offsets") place = numbers();
      else tensor.dtype = text();  // or a word of "__metadata__"
    }
    at = header.find('}', at) + 1;
    tensor.bytes = data.substr(place.at(0), place.at(1) - place.at(0));
    if (name != "__metadata__") tensors[name] = tensor;
  }
  return tensors;
}

inline void write(const std::string& path, const Tensors& tensors) {
  std::string header, data, shape;
  for (const auto& [name, x] : tensors) {
    shape.clear();
    for (int64_t n : x.shape)
      shape += (shape.empty() ? "" : ",") + std::to_string(n);
    header += (header.empty() ? "{\"" : ",\"") + name + "\":{\"dtype\":\"";
    header += x.dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[";
    header += std::to_string(data.size()) + ",";
    header += std::to_string((data += x.bytes).size()) + "]}";
  }
  header += header.empty() ? "{}" : "}";
  uint64_t size = header.size();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(&size), 8) << header << data;
}
}  // namespace safetensors
