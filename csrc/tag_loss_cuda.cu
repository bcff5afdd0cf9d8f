// The operator's kernels for CUDA: one launch forward, one backward, on the current stream; no atomics, and
// nothing is read by the host.
#include <cuda_runtime.h>

#include <torch/csrc/stable/accelerator.h>

#include "tag_loss_tensors.h"

// Weak, so that the library also loads in a torch without CUDA: any machine can test building and loading it.
extern "C" __attribute__((weak)) int32_t aoti_torch_get_current_cuda_stream(int32_t device_index,
                                                                             void** stream);

namespace pose {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kFill = 8192;  // gradient cells that one block zero-fills

// The warps of one block: each is a team, its threads are the lanes.
struct Warps {
  static constexpr bool alone = false;
  __device__ int64_t first() const { return threadIdx.x / 32; }
  __device__ int64_t step() const { return blockDim.x / 32; }
  __device__ int64_t lane() const { return threadIdx.x % 32; }
  __device__ int64_t lanes() const { return 32; }
  __device__ void sync() const { __syncthreads(); }
  template <class Number>
  __device__ Number sum(Number number) const {
    for (int other = 16; other > 0; other /= 2) number += __shfl_xor_sync(0xffffffffu, number, other);
    return number;
  }
};

// One block an image.
template <class T>
__global__ void __launch_bounds__(kThreads)
    tag_loss_forward(TagMaps<T> maps, const int64_t* cell_BPK, int64_t people, int64_t joints,
                     Person* person_BP, double* pull_grad_BPK, double* push_grad_BP, LossOf<T>* pull_B,
                     LossOf<T>* push_B) {
  const int64_t b = blockIdx.x;
  tag_loss_image(Warps{}, maps, b, cell_BPK + b * people * joints, people, joints, person_BP + b * people,
                 pull_grad_BPK + b * people * joints, push_grad_BP + b * people, pull_B + b, push_B + b);
}

// Fills part[0 .. size - 1] with zeros, by all threads of the block, 16 bytes at a time where it is aligned.
template <class T>
__device__ void fill_with_zero(T* part, int64_t size) {
  constexpr int64_t width = sizeof(uint4) / sizeof(T);
  int64_t done = 0;
  if (reinterpret_cast<uintptr_t>(part) % sizeof(uint4) == 0) {
    done = size / width * width;
    for (int64_t i = threadIdx.x; i < size / width; i += blockDim.x) {
      reinterpret_cast<uint4*>(part)[i] = make_uint4(0, 0, 0, 0);
    }
  }
  for (int64_t i = done + threadIdx.x; i < size; i += blockDim.x) part[i] = static_cast<T>(0.0f);
}

// Each block has a part of one joint's map: it fills the part with zeros, then writes the cells of people
// there. Where people share a cell, the thread of the first one writes the sum over all, in their order: no
// two threads write to one cell, and every run gives the same result.
template <class T>
__global__ void __launch_bounds__(kThreads)
    tag_loss_backward(const LossOf<T>* grad_pull_B, int64_t grad_pull_stride, const LossOf<T>* grad_push_B,
                      int64_t grad_push_stride, const double* pull_grad_BPK, const double* push_grad_BP,
                      const int64_t* cell_BPK, int64_t people, int64_t joints, int64_t cells, int64_t parts,
                      T* grad_BKhw) {
  const int64_t map = blockIdx.x / parts, begin = blockIdx.x % parts * kFill;
  const int64_t end = begin + kFill < cells ? begin + kFill : cells;
  const int64_t b = map / joints, k = map % joints;
  T* grad_hw = grad_BKhw + map * cells;
  fill_with_zero(grad_hw + begin, end - begin);
  __syncthreads();

  const ImageGrads grads{cell_BPK + b * people * joints,
                         pull_grad_BPK + b * people * joints,
                         push_grad_BP + b * people,
                         static_cast<double>(grad_pull_B[b * grad_pull_stride]),
                         static_cast<double>(grad_push_B[b * grad_push_stride]),
                         joints};
  for (int64_t p = threadIdx.x; p < people; p += blockDim.x) {
    const int64_t cell = grads.cell(p, k);
    if (cell < begin || cell >= end) continue;
    int64_t owner = 0;
    while (grads.cell(owner, k) != cell) ++owner;
    if (owner == p) grad_hw[cell] = static_cast<T>(grads.gradient(k, cell, p, people));
  }
}

cudaStream_t current_stream(const Tensor& tensor) {
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream != nullptr,
                  "tag_loss: this torch was built without CUDA");
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

void check_launch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  STD_TORCH_CHECK(error == cudaSuccess, kernel, ": ", cudaGetErrorString(error));
}

unsigned int grid_of(int64_t blocks) {
  STD_TORCH_CHECK(blocks <= 2147483647, "tag_loss: the maps are too large for one launch (", blocks,
                  " blocks)");
  return static_cast<unsigned int>(blocks);
}

Losses tag_loss_cuda(const Tensor& tag_BKhw, const Tensor& cell_given_BPK) {
  const torch::stable::accelerator::DeviceGuard guard(tag_BKhw.get_device_index());
  const Tensor cell_BPK = torch::stable::contiguous(cell_given_BPK);
  const int64_t images = cell_BPK.size(0), people = cell_BPK.size(1), joints = cell_BPK.size(2);
  const Losses losses = new_losses(tag_BKhw, cell_BPK);
  if (images == 0) return losses;
  const Tensor person_BP = new_people(cell_BPK);
  const cudaStream_t stream = current_stream(tag_BKhw);
  POSE_DISPATCH_MAPS(tag_BKhw.scalar_type(), [&] {
    tag_loss_forward<scalar_t><<<grid_of(images), kThreads, 0, stream>>>(
        maps_of<scalar_t>(tag_BKhw), cell_BPK.const_data_ptr<int64_t>(), people, joints,
        reinterpret_cast<Person*>(person_BP.mutable_data_ptr()),
        std::get<2>(losses).mutable_data_ptr<double>(), std::get<3>(losses).mutable_data_ptr<double>(),
        std::get<0>(losses).mutable_data_ptr<LossOf<scalar_t>>(),
        std::get<1>(losses).mutable_data_ptr<LossOf<scalar_t>>());
  });
  check_launch("tag_loss");
  return losses;
}

Tensor tag_loss_backward_cuda(const Tensor& grad_pull_B, const Tensor& grad_push_B,
                              const Tensor& pull_grad_BPK, const Tensor& push_grad_BP, const Tensor& tag_BKhw,
                              const Tensor& cell_given_BPK) {
  const torch::stable::accelerator::DeviceGuard guard(tag_BKhw.get_device_index());
  const Tensor cell_BPK = torch::stable::contiguous(cell_given_BPK);
  const int64_t images = cell_BPK.size(0), people = cell_BPK.size(1), joints = cell_BPK.size(2);
  const int64_t cells = tag_BKhw.size(2) * tag_BKhw.size(3);
  const Tensor grad_BKhw = new_gradient(tag_BKhw);
  if (grad_BKhw.numel() == 0) return grad_BKhw;
  const int64_t parts = (cells + kFill - 1) / kFill;
  const cudaStream_t stream = current_stream(tag_BKhw);
  POSE_DISPATCH_MAPS(tag_BKhw.scalar_type(), [&] {
    tag_loss_backward<scalar_t><<<grid_of(images * joints * parts), kThreads, 0, stream>>>(
        grad_pull_B.const_data_ptr<LossOf<scalar_t>>(), grad_pull_B.stride(0),
        grad_push_B.const_data_ptr<LossOf<scalar_t>>(), grad_push_B.stride(0),
        pull_grad_BPK.const_data_ptr<double>(), push_grad_BP.const_data_ptr<double>(),
        cell_BPK.const_data_ptr<int64_t>(), people, joints, cells, parts,
        grad_BKhw.mutable_data_ptr<scalar_t>());
  });
  check_launch("tag_loss_backward");
  return grad_BKhw;
}

}  // namespace
}  // namespace pose

STABLE_TORCH_LIBRARY_IMPL(pose, CUDA, m) {
  m.impl("tag_loss", TORCH_BOX(&pose::tag_loss_cuda));
  m.impl("tag_loss_backward", TORCH_BOX(&pose::tag_loss_backward_cuda));
}
