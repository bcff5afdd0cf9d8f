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
  int64_t broken = 0;
  for (int64_t i = 0; i < numel; ++i) broken += cell_BPK[i] < -1 || cell_BPK[i] >= cells;
  if (broken == 0) return;
  int64_t i = 0;
  while (cell_BPK[i] >= -1 && cell_BPK[i] < cells) ++i;
  STD_TORCH_CHECK(false, "tag_loss: cell_BPK[", i / joints / people, ", ", i / joints % people, ", ", i % joints, "] is ", cell_BPK[i],
                  ", expected -1 (absent) or 0 to ", cells - 1, " (", broken, " such in all)");
}

Losses tag_loss_cpu(const Tensor& tag_BKhw, const Tensor& cell_given_BPK) {
  check_forward(tag_BKhw, cell_given_BPK);
  const Tensor cell_BPK = torch::stable::contiguous(cell_given_BPK);
  const int64_t images = cell_BPK.size(0), people = cell_BPK.size(1), joints = cell_BPK.size(2);
  const int64_t* cells = cell_BPK.const_data_ptr<int64_t>();
  check_cells(cells, people, joints, cell_BPK.numel(), tag_BKhw.size(2) * tag_BKhw.size(3));

  const Losses losses = new_losses(tag_BKhw, cell_BPK);
  const Tensor person_BP = new_people(cell_BPK);
  auto* persons = reinterpret_cast<Person*>(person_BP.mutable_data_ptr());
  auto* pull_slopes = std::get<2>(losses).mutable_data_ptr<double>();
  auto* push_slopes = std::get<3>(losses).mutable_data_ptr<double>();
  POSE_DISPATCH_MAPS(tag_BKhw.scalar_type(), [&] {
    const TagMaps<scalar_t> maps = maps_of<scalar_t>(tag_BKhw);
    auto* pull_B = std::get<0>(losses).mutable_data_ptr<LossOf<scalar_t>>();
    auto* push_B = std::get<1>(losses).mutable_data_ptr<LossOf<scalar_t>>();
    torch::stable::parallel_for(0, images, /*grain_size=*/1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        tag_loss_image(OneThread{}, maps, b, cells + b * people * joints, people, joints, persons + b * people,
                       pull_slopes + b * people * joints, push_slopes + b * people, pull_B + b, push_B + b);
      }
    });
  });
  return losses;
}

Tensor tag_loss_backward_cpu(const Tensor& pull_grad_B, const Tensor& push_grad_B, const Tensor& pull_slope_BPK,
                             const Tensor& push_slope_BP, const Tensor& tag_BKhw, const Tensor& cell_given_BPK) {
  check_backward(pull_grad_B, push_grad_B, pull_slope_BPK, push_slope_BP, tag_BKhw, cell_given_BPK);
  const Tensor cell_BPK = torch::stable::contiguous(cell_given_BPK);
  const int64_t images = cell_BPK.size(0), people = cell_BPK.size(1), joints = cell_BPK.size(2);
  const int64_t cells = tag_BKhw.size(2) * tag_BKhw.size(3);
  const Tensor grad_BKhw = new_gradient(tag_BKhw);
  const int64_t grain = 1 + 32768 / (cells + 1);  // maps per thread below which a second thread costs more than it brings
  const auto* cell_of = cell_BPK.const_data_ptr<int64_t>();
  const auto* pull_slope_of = pull_slope_BPK.const_data_ptr<double>();
  const auto* push_slope_of = push_slope_BP.const_data_ptr<double>();
  const int64_t pull_stride = pull_grad_B.stride(0), push_stride = push_grad_B.stride(0);
  POSE_DISPATCH_MAPS(tag_BKhw.scalar_type(), [&] {
    auto* grad_of = grad_BKhw.mutable_data_ptr<scalar_t>();
    const auto* pull_grad_of = pull_grad_B.const_data_ptr<LossOf<scalar_t>>();
    const auto* push_grad_of = push_grad_B.const_data_ptr<LossOf<scalar_t>>();
    // Map by map, so that what is written into a map finds it in the cache, where zero-filling has left it.
    torch::stable::parallel_for(0, images * joints, grain, [&](int64_t begin, int64_t end) {
      for (int64_t map = begin; map < end; ++map) {
        const int64_t b = map / joints, k = map % joints;
        const ImageSlopes slopes{cell_of + b * people * joints, pull_slope_of + b * people * joints, push_slope_of + b * people,
                                 pull_grad_of[b * pull_stride], push_grad_of[b * push_stride],       joints};
        scalar_t* grad_hw = grad_of + map * cells;
        std::fill_n(grad_hw, cells, scalar_t(0));
        for (int64_t p = 0; p < people; ++p) {
          const int64_t cell = slopes.cell(p, k);
          if (!is_inside(cell, cells)) continue;
          // Something is there already: an earlier person shares the cell, and rounding comes after the sum of all.
          const bool shared = grad_hw[cell] != scalar_t(0);
          grad_hw[cell] = static_cast<scalar_t>(slopes.gradient(k, cell, shared ? 0 : p, p + 1));
        }
      }
    });
  });
  return grad_BKhw;
}

}  // namespace
}  // namespace pose

STABLE_TORCH_LIBRARY(pose, m) {
  m.def("tag_loss(Tensor tag_BKhw, Tensor cell_BPK) -> (Tensor pull_B, Tensor push_B, Tensor pull_slope_BPK, Tensor push_slope_BP)");
  m.def(
      "tag_loss_backward(Tensor pull_grad_B, Tensor push_grad_B, Tensor pull_slope_BPK, Tensor push_slope_BP, Tensor tag_BKhw, "
      "Tensor cell_BPK) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(pose, CPU, m) {
  m.impl("tag_loss", TORCH_BOX(&pose::tag_loss_cpu));
  m.impl("tag_loss_backward", TORCH_BOX(&pose::tag_loss_backward_cpu));
}
