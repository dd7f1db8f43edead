// A card, op by op: the softmax of a port in C++.  g++ -std=c++17 -O2 card.cpp
#include <algorithm>
#include <cmath>
#include "safetensors.hpp"

using namespace safetensors;

int main(int, char** argv) {  // folder of the cards, dump to write
  const std::string folder = argv[1], input = ".input.x";
  Tensors dump;
  for (const auto& [name, tensor] : read(folder + "/softmax.safetensors")) {
    size_t end = name.size() - std::min(name.size(), input.size());
    if (name.substr(end) != input) continue;
    auto x = tensor.as<float>();
    const size_t width = tensor.shape.back();
    for (size_t row = 0; row < x.size(); row += width) {
      float *first = &x[row], *last = first + width, sum = 0;
      const float top = *std::max_element(first, last);
      for (float* e = first; e < last; e++) sum += *e = std::exp(*e - top);
      for (float* e = first; e < last; e++) *e /= sum;
    }
    std::string bytes(reinterpret_cast<char*>(x.data()), 4 * x.size());
    const std::string key = "softmax." + name.substr(0, end) + ".output";
    dump[key] = {"F32", tensor.shape, bytes};
  }
  write(argv[2], dump);
}
