// The tag loss of associative embedding (arXiv 1611.05424), without torch; the same code for CPU and CUDA.
//
// B images, K joints, P people, h w map cells. For one image, with t_pk the value of tag map k in the cell of
// joint k of person p, n_p the number of p's joints that are present, m_p their mean tag and N the number of
// people with n_p > 0:
//   pull = 1/N sum_p 1/n_p sum_k (t_pk - m_p)^2
//   push = 1/2 sum_{p<q} exp(-(m_p - m_q)^2) / (N (N - 1) / 2), 0 if N < 2
// The forward pass also returns their gradients; the backward pass then needs neither maps nor exponentials:
//   pull_grad = d pull / d t_pk = 2 (t_pk - m_p) / (N n_p)          (the gradients through the means cancel)
//   push_grad = d push / d t_pk = -2 / (N (N - 1) n_p) sum_{q != p} (m_p - m_q) exp(-(m_p - m_q)^2)
//               (the same for all joints of p)
// grad_pull and grad_push are the incoming gradients of the two losses. All sums are in double, whatever the
// maps hold: a joint whose tag nearly equals the mean keeps a gradient of full precision.
#pragma once

#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define POSE_HOST_DEVICE __host__ __device__
#else
#define POSE_HOST_DEVICE
#endif

namespace pose {

// Tag maps with any strides (in elements), so that a slice of the network's output needs no copy.
template <class T>
struct TagMaps {
  const T* data;
  int64_t image_stride, joint_stride, row_stride, column_stride;
  int64_t width, cells;

  POSE_HOST_DEVICE double at(int64_t b, int64_t k, int64_t cell) const {
    const bool rows_join = row_stride == width * column_stride;  // nearly always; saves a division per cell
    const int64_t inside =
        rows_join ? cell * column_stride : cell / width * row_stride + cell % width * column_stride;
    return static_cast<double>(data[b * image_stride + k * joint_stride + inside]);
  }
};

// Scratch memory of one call for each person.
struct Person {
  double mean, spread, energy, force;
  int32_t visible, broken;
};

POSE_HOST_DEVICE inline bool is_inside(int64_t cell, int64_t cells) { return cell >= 0 && cell < cells; }

// Losses and gradients of image b. `Team` is what works on it: one thread on the CPU, the warps of one block
// on CUDA. Teams take people in turn, the lanes of a team share a person's joints (or the others to push away
// from); a team's sum, in one fixed order, reaches all lanes. A cell that is neither -1 nor inside the map
// makes both losses of its image NaN and their gradients zero; no memory outside is read.
template <class Team, class T, class Loss>
POSE_HOST_DEVICE void tag_loss_image(const Team& team, const TagMaps<T>& maps, int64_t b,
                                     const int64_t* cell_PK, int64_t people, int64_t joints, Person* person_P,
                                     double* pull_grad_PK, double* push_grad_P, Loss* pull, Loss* push) {
  for (int64_t p = team.first(); p < people; p += team.step()) {
    const int64_t* cell_K = cell_PK + p * joints;
    double* grad_K = pull_grad_PK + p * joints;
    double sum = 0;
    int visible = 0, broken = 0;
    for (int64_t k = team.lane(); k < joints; k += team.lanes()) {
      const int64_t cell = cell_K[k];
      const bool inside = is_inside(cell, maps.cells);
      const double tag = inside ? maps.at(b, k, cell) : 0;
      grad_K[k] = tag;  // kept here until the mean is known; the same lane comes back for it
      sum += tag;
      visible += inside;
      broken |= !inside && cell != -1;
    }
    visible = team.sum(visible);
    const double share = visible > 0 ? 1.0 / visible : 0;
    const double mean = team.sum(sum) * share;
    double spread = 0;
    for (int64_t k = team.lane(); k < joints; k += team.lanes()) {
      const double away = is_inside(cell_K[k], maps.cells) ? grad_K[k] - mean : 0;
      spread += away * away;
      grad_K[k] = 2 * share * away;
    }
    spread = team.sum(spread) * share;
    broken = team.sum(broken);
    if (team.lane() == 0) person_P[p] = {mean, spread, 0, 0, visible, broken};
  }
  team.sync();

  int present = 0, broken = 0;
  for (int64_t q = team.lane(); q < people; q += team.lanes()) {
    present += person_P[q].visible > 0;
    broken |= person_P[q].broken;
  }
  present = team.sum(present);
  broken = team.sum(broken);
  const double per_person = present > 0 && !broken ? 1.0 / present : 0;
  const double per_pair = present > 1 && !broken ? 1.0 / (static_cast<double>(present) * (present - 1)) : 0;

  for (int64_t p = team.first(); p < people; p += team.step()) {
    const double mean = person_P[p].mean;
    const int visible = person_P[p].visible;
    // A single thread visits each pair once and adds to both sides; parallel lanes visit it from both sides.
    double energy = 0, force = 0;
    for (int64_t q = team.alone ? p + 1 : team.lane(); q < people && visible > 0; q += team.lanes()) {
      if (q == p || person_P[q].visible == 0) continue;
      const double apart = mean - person_P[q].mean;
      const double pair_energy = exp(-apart * apart);
      energy += pair_energy;
      force -= 2 * apart * pair_energy;
      if (team.alone) person_P[q].force += 2 * apart * pair_energy;
    }
    energy = team.sum(energy);
    force = team.sum(force) + person_P[p].force;
    if (team.lane() == 0) {
      person_P[p].energy = energy;
      push_grad_P[p] = visible > 0 && per_pair > 0 ? force * per_pair / visible : 0;
    }
    for (int64_t k = team.lane(); k < joints; k += team.lanes()) {
      double& grad = pull_grad_PK[p * joints + k];
      grad = per_person > 0 ? grad * per_person : 0;
    }
  }
  team.sync();

  if (team.first() != 0) return;
  double spread = 0, energy = 0;
  for (int64_t p = team.lane(); p < people; p += team.lanes()) {
    spread += person_P[p].spread;
    energy += person_P[p].energy;
  }
  spread = team.sum(spread);
  energy = team.sum(energy);
  if (team.lane() != 0) return;
  *pull = static_cast<Loss>(broken ? NAN : spread * per_person);
  *push = static_cast<Loss>(broken ? NAN : (team.alone ? 1 : 0.5) * energy * per_pair);
}

// The gradients of one image's two losses, saved and incoming.
struct ImageGrads {
  const int64_t* cell_PK;
  const double *pull_grad_PK, *push_grad_P;
  double grad_pull, grad_push;
  int64_t joints;

  POSE_HOST_DEVICE int64_t cell(int64_t p, int64_t k) const { return cell_PK[p * joints + k]; }

  // Gradient of tag map k in a cell: the sum over the people begin..end-1 whose joint k lies there, in order.
  POSE_HOST_DEVICE double gradient(int64_t k, int64_t cell_of_k, int64_t begin, int64_t end) const {
    double sum = 0;
    for (int64_t p = begin; p < end; ++p) {
      if (cell(p, k) != cell_of_k) continue;
      sum += grad_pull * pull_grad_PK[p * joints + k] + grad_push * push_grad_P[p];
    }
    return sum;
  }
};

}  // namespace pose
