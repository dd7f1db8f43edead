// float16 as kernels.cu uses it: made of a float, made a float.
#pragma once
#include <string.h>

struct __half {
    unsigned short bits;
    __half() = default;
    __half(float x) {
        const _Float16 rounded = x;
        memcpy(&bits, &rounded, 2);
    }
    operator float() const {
        _Float16 x;
        memcpy(&x, &bits, 2);
        return x;
    }
};
