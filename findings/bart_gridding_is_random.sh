#!/usr/bin/env bash
# BART with several threads: pics of the same radial samples gives another image each time.
#
# Sums of gridding run in any order. Conjugate gradients amplify the rounding: two images differ by 10⁻⁴ to 10⁻³ of
# their norm, so that differences of images, as for noise, say nothing below that. With OMP_NUM_THREADS=1 they are
# equal.
#
# Seen with BART 0.8.00 on 2 cores. Needs bart. Fails where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
bart traj -r -x 48 -y 30 trajectory
bart phantom -k -s 4 -t trajectory kspace
bart phantom -x 48 -S 4 sens
spread() { # of four images by this many threads, the largest difference from the first
  export OMP_NUM_THREADS=$1
  for i in 0 1 2 3; do bart pics -S -l2 -r 0.0001 -t trajectory kspace sens "image$i" >/dev/null; done
  for i in 1 2 3; do bart nrmse image0 "image$i"; done | sort -g | tail -1
}
one=$(spread 1) several=$(spread 4)
echo "bart $(bart version): one thread $one, four threads $several"
awk -v one="$one" -v several="$several" 'BEGIN { exit !(one == 0 && several > 1e-6) }' ||
  { echo "the behaviour has changed"; exit 1; }
