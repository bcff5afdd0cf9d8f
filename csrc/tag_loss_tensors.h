// What the CPU and CUDA registrations share: new tensors, the choice of the element type. Shapes, types and
// devices are checked in Python (pose/ops/tag_loss.py).
// Only the stable ABI of torch (2.11 and later) is used, so that one library works with every later version.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/Dispatch.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <tuple>
#include <type_traits>

#include "tag_loss.h"

namespace pose {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// The body is variadic because a macro splits it at its commas.
#define POSE_DISPATCH_MAPS(TYPE, ...)                                     \
  THO_DISPATCH_SWITCH(TYPE, "tag_loss",                                   \
                      THO_DISPATCH_CASE(ScalarType::Float, __VA_ARGS__)   \
                      THO_DISPATCH_CASE(ScalarType::Double, __VA_ARGS__)  \
                      THO_DISPATCH_CASE(ScalarType::Half, __VA_ARGS__)    \
                      THO_DISPATCH_CASE(ScalarType::BFloat16, __VA_ARGS__))

// The losses of double maps are double, of all others float.
template <class T>
using LossOf = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
TagMaps<T> maps_of(const Tensor& tag_BKhw) {
  return {tag_BKhw.const_data_ptr<T>(), tag_BKhw.stride(0), tag_BKhw.stride(1), tag_BKhw.stride(2),
          tag_BKhw.stride(3),           tag_BKhw.size(3),   tag_BKhw.size(2) * tag_BKhw.size(3)};
}

using Losses = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // pull_B, push_B, pull_grad_BPK, push_grad_BP

inline Losses new_losses(const Tensor& tag_BKhw, const Tensor& cell_BPK) {
  const int64_t images = cell_BPK.size(0), people = cell_BPK.size(1), joints = cell_BPK.size(2);
  const bool wide = tag_BKhw.scalar_type() == ScalarType::Double;  // as LossOf
  const ScalarType type = wide ? ScalarType::Double : ScalarType::Float;
  return {torch::stable::new_empty(tag_BKhw, {images}, type),
          torch::stable::new_empty(tag_BKhw, {images}, type),
          torch::stable::new_empty(tag_BKhw, {images, people, joints}, ScalarType::Double),
          torch::stable::new_empty(tag_BKhw, {images, people}, ScalarType::Double)};
}

static_assert(sizeof(Person) == 5 * sizeof(double), "scratch memory is made as doubles");

// Contiguous, whatever the strides of the maps: autograd adds it faster to a slice of the network's output.
inline Tensor new_gradient(const Tensor& tag_BKhw) {
  return torch::stable::new_empty(tag_BKhw,
                                  {tag_BKhw.size(0), tag_BKhw.size(1), tag_BKhw.size(2), tag_BKhw.size(3)});
}

inline Tensor new_people(const Tensor& cell_BPK) {
  return torch::stable::new_empty(cell_BPK, {cell_BPK.size(0), cell_BPK.size(1), 5}, ScalarType::Double);
}

}  // namespace pose
