// What the CPU and CUDA registrations share: argument checks, new tensors, the choice of the element type.
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
inline ScalarType loss_type(ScalarType maps) {
  return maps == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

template <class T>
using LossOf = std::conditional_t<std::is_same_v<T, double>, double, float>;

inline void check_maps_type(ScalarType type) {
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
                      type == ScalarType::BFloat16,
                  "tag_loss: tag_BKhw is of type ", torch::headeronly::toString(type),
                  ", expected float32, float64, float16 or bfloat16");
}

inline void check_same_device(const Tensor& tensor, const char* name, const Tensor& other,
                              const char* other_name) {
  const bool same_type = tensor.is_cuda() == other.is_cuda() && tensor.is_cpu() == other.is_cpu();
  STD_TORCH_CHECK(same_type && tensor.get_device_index() == other.get_device_index(), "tag_loss: ", name,
                  " and ", other_name, " are on different devices");
}

inline void check_forward(const Tensor& tag_BKhw, const Tensor& cell_BPK) {
  check_maps_type(tag_BKhw.scalar_type());
  STD_TORCH_CHECK(tag_BKhw.dim() == 4, "tag_loss: tag_BKhw has ", tag_BKhw.dim(),
                  " dimensions, expected 4 (B, K, h, w)");
  STD_TORCH_CHECK(cell_BPK.scalar_type() == ScalarType::Long, "tag_loss: cell_BPK is of type ",
                  torch::headeronly::toString(cell_BPK.scalar_type()), ", expected int64");
  STD_TORCH_CHECK(cell_BPK.dim() == 3, "tag_loss: cell_BPK has ", cell_BPK.dim(),
                  " dimensions, expected 3 (B, P, K)");
  STD_TORCH_CHECK(cell_BPK.size(0) == tag_BKhw.size(0) && cell_BPK.size(2) == tag_BKhw.size(1),
                  "tag_loss: cell_BPK is for ", cell_BPK.size(0), " images and ", cell_BPK.size(2),
                  " joints, tag_BKhw for ", tag_BKhw.size(0), " and ", tag_BKhw.size(1));
  check_same_device(cell_BPK, "cell_BPK", tag_BKhw, "tag_BKhw");
}

inline void check_backward(const Tensor& grad_pull_B, const Tensor& grad_push_B, const Tensor& pull_grad_BPK,
                           const Tensor& push_grad_BP, const Tensor& tag_BKhw, const Tensor& cell_BPK) {
  check_forward(tag_BKhw, cell_BPK);
  for (const Tensor& grad_B : {grad_pull_B, grad_push_B}) {
    STD_TORCH_CHECK(grad_B.dim() == 1 && grad_B.size(0) == tag_BKhw.size(0) &&
                        grad_B.scalar_type() == loss_type(tag_BKhw.scalar_type()),
                    "tag_loss_backward: grad_pull_B and grad_push_B must have the losses' shape and type");
    check_same_device(grad_B, "the incoming gradients", tag_BKhw, "tag_BKhw");
  }
  STD_TORCH_CHECK(pull_grad_BPK.numel() == cell_BPK.numel() &&
                      push_grad_BP.numel() == cell_BPK.size(0) * cell_BPK.size(1),
                  "tag_loss_backward: pull_grad_BPK and push_grad_BP are not of these people");
  for (const Tensor& grad : {pull_grad_BPK, push_grad_BP}) {
    STD_TORCH_CHECK(grad.scalar_type() == ScalarType::Double && grad.is_contiguous(),
                    "tag_loss_backward: pull_grad_BPK and push_grad_BP must be those that tag_loss returned");
    check_same_device(grad, "the saved gradients", tag_BKhw, "tag_BKhw");
  }
}

template <class T>
TagMaps<T> maps_of(const Tensor& tag_BKhw) {
  return {tag_BKhw.const_data_ptr<T>(), tag_BKhw.stride(0), tag_BKhw.stride(1), tag_BKhw.stride(2),
          tag_BKhw.stride(3),           tag_BKhw.size(3),   tag_BKhw.size(2) * tag_BKhw.size(3)};
}

using Losses = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // pull_B, push_B, pull_grad_BPK, push_grad_BP

inline Losses new_losses(const Tensor& tag_BKhw, const Tensor& cell_BPK) {
  const int64_t images = cell_BPK.size(0), people = cell_BPK.size(1), joints = cell_BPK.size(2);
  const ScalarType type = loss_type(tag_BKhw.scalar_type());
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
