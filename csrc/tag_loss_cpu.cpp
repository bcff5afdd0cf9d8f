// The operator's schema and its kernels for the CPU.
#include <algorithm>

#include "tag_loss_tensors.h"

namespace pose {
namespace {

struct OneThread {
  static constexpr bool alone = true;
  int64_t first() const { return 0; }
  int64_t step() const { return 1; }
  int64_t lane() const { return 0; }
  int64_t lanes() const { return 1; }
  void sync() const {}
  template <class Number>
  Number sum(Number number) const {
    return number;
  }
};

void check_cells(const int64_t* cell_BPK, int64_t people, int64_t joints, int64_t numel, int64_t cells) {
  for (int64_t i = 0; i < numel; ++i) {
    STD_TORCH_CHECK(cell_BPK[i] >= -1 && cell_BPK[i] < cells, "tag_loss: cell_BPK[", i / joints / people, ", ",
                    i / joints % people, ", ", i % joints, "] is ", cell_BPK[i],
                    ", expected -1 (absent) or 0 to ", cells - 1);
  }
}

Losses tag_loss_cpu(const Tensor& tag_BKhw, const Tensor& cell_given_BPK) {
  const Tensor cell_BPK = torch::stable::contiguous(cell_given_BPK);
  const int64_t images = cell_BPK.size(0), people = cell_BPK.size(1), joints = cell_BPK.size(2);
  const int64_t* cells = cell_BPK.const_data_ptr<int64_t>();
  check_cells(cells, people, joints, cell_BPK.numel(), tag_BKhw.size(2) * tag_BKhw.size(3));

  const Losses losses = new_losses(tag_BKhw, cell_BPK);
  const Tensor person_BP = new_people(cell_BPK);
  auto* persons = reinterpret_cast<Person*>(person_BP.mutable_data_ptr());
  auto* pull_grads = std::get<2>(losses).mutable_data_ptr<double>();
  auto* push_grads = std::get<3>(losses).mutable_data_ptr<double>();
  POSE_DISPATCH_MAPS(tag_BKhw.scalar_type(), [&] {
    const TagMaps<scalar_t> maps = maps_of<scalar_t>(tag_BKhw);
    auto* pull_B = std::get<0>(losses).mutable_data_ptr<LossOf<scalar_t>>();
    auto* push_B = std::get<1>(losses).mutable_data_ptr<LossOf<scalar_t>>();
    torch::stable::parallel_for(0, images, /*grain_size=*/1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        tag_loss_image(OneThread{}, maps, b, cells + b * people * joints, people, joints,
                       persons + b * people, pull_grads + b * people * joints, push_grads + b * people,
                       pull_B + b, push_B + b);
      }
    });
  });
  return losses;
}

Tensor tag_loss_backward_cpu(const Tensor& grad_pull_B, const Tensor& grad_push_B,
                             const Tensor& pull_grad_BPK, const Tensor& push_grad_BP, const Tensor& tag_BKhw,
                             const Tensor& cell_given_BPK) {
  const Tensor cell_BPK = torch::stable::contiguous(cell_given_BPK);
  const int64_t images = cell_BPK.size(0), people = cell_BPK.size(1), joints = cell_BPK.size(2);
  const int64_t cells = tag_BKhw.size(2) * tag_BKhw.size(3);
  const Tensor grad_BKhw = new_gradient(tag_BKhw);
  const int64_t grain = 1 + 32768 / (cells + 1);  // with fewer maps per thread, a second thread does not pay
  const auto* cell_of = cell_BPK.const_data_ptr<int64_t>();
  const auto* pull_grad_of = pull_grad_BPK.const_data_ptr<double>();
  const auto* push_grad_of = push_grad_BP.const_data_ptr<double>();
  const int64_t pull_stride = grad_pull_B.stride(0), push_stride = grad_push_B.stride(0);
  POSE_DISPATCH_MAPS(tag_BKhw.scalar_type(), [&] {
    auto* grad_of = grad_BKhw.mutable_data_ptr<scalar_t>();
    const auto* grad_pull_of = grad_pull_B.const_data_ptr<LossOf<scalar_t>>();
    const auto* grad_push_of = grad_push_B.const_data_ptr<LossOf<scalar_t>>();
    // Map by map: zero-filling has just brought the map into the cache.
    torch::stable::parallel_for(0, images * joints, grain, [&](int64_t begin, int64_t end) {
      for (int64_t map = begin; map < end; ++map) {
        const int64_t b = map / joints, k = map % joints;
        const ImageGrads grads{cell_of + b * people * joints,
                               pull_grad_of + b * people * joints,
                               push_grad_of + b * people,
                               grad_pull_of[b * pull_stride],
                               grad_push_of[b * push_stride],
                               joints};
        scalar_t* grad_hw = grad_of + map * cells;
        std::fill_n(grad_hw, cells, scalar_t(0));
        for (int64_t p = 0; p < people; ++p) {
          const int64_t cell = grads.cell(p, k);
          if (!is_inside(cell, cells)) continue;
          // Not zero: an earlier person shares the cell. The sum over all of them is rounded once.
          const bool shared = grad_hw[cell] != scalar_t(0);
          grad_hw[cell] = static_cast<scalar_t>(grads.gradient(k, cell, shared ? 0 : p, p + 1));
        }
      }
    });
  });
  return grad_BKhw;
}

}  // namespace
}  // namespace pose

STABLE_TORCH_LIBRARY(pose, m) {
  m.def(
      "tag_loss(Tensor tag_BKhw, Tensor cell_BPK) -> (Tensor pull_B, Tensor push_B, Tensor pull_grad_BPK, "
      "Tensor push_grad_BP)");
  m.def(
      "tag_loss_backward(Tensor grad_pull_B, Tensor grad_push_B, Tensor pull_grad_BPK, Tensor push_grad_BP, "
      "Tensor tag_BKhw, Tensor cell_BPK) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(pose, CPU, m) {
  m.impl("tag_loss", TORCH_BOX(&pose::tag_loss_cpu));
  m.impl("tag_loss_backward", TORCH_BOX(&pose::tag_loss_backward_cpu));
}
