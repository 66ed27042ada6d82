// Scores golden tensors with one ExecuTorch program: executorch_runner MODEL TENSORS SIDE
// TENSORS holds the raw bytes of uint8 [n, SIDE, SIDE, 3]. Prints a score a line.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <vector>

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

using executorch::aten::ScalarType;
using executorch::extension::from_blob;

int main(int argc, char** argv) {
    if (argc != 4) {
        std::fprintf(stderr, "usage: %s MODEL TENSORS SIDE\n", argv[0]);
        return 2;
    }
    const int side = std::atoi(argv[3]);
    const std::size_t size = std::size_t(side) * side * 3;
    std::ifstream file(argv[2], std::ios::binary);
    std::vector<std::uint8_t> images((std::istreambuf_iterator<char>(file)), {});
    if (size == 0 || images.empty() || images.size() % size != 0) {
        std::fprintf(stderr, "%s does not hold images of %d pixels\n", argv[2], side);
        return 2;
    }
    executorch::extension::Module module(argv[1]);
    for (std::size_t start = 0; start < images.size(); start += size) {
        auto image = from_blob(images.data() + start, {1, side, side, 3}, ScalarType::Byte);
        const auto result = module.forward(image);
        if (!result.ok()) {
            std::fprintf(stderr, "%s: error 0x%x\n", argv[1], unsigned(result.error()));
            return 1;
        }
        std::printf("%.9g\n", result->at(0).toTensor().const_data_ptr<float>()[0]);
    }
}
