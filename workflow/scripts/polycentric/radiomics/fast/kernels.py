"""Loops over voxels and over grey level matrices. Integer results are exact; sums run in a fixed order.

Texture kernels see the ROI as a flat array `grid` of grey level ranks (1, 2, ..; 0 outside the ROI) with a margin of
zeros that is at least as wide as the largest offset, the flat positions `voxels` of the ROI in that array, in raster
order, and neighbours as flat offsets.
"""

from __future__ import annotations

import numpy as np

from .jit import kernel

EPSILON = float(np.spacing(1.0))


@kernel("int64(float64[::1], float64[::1], float64, int32[::1], int64[::1])")
def digitise(values, edges, width, levels, counts):
    """Bin of each value: i where edges[i - 1] <= value < edges[i]. Returns how many lie below the first edge."""
    last = len(edges)
    below = 0
    for n in range(len(values)):
        value = values[n]
        level = min(max(int((value - edges[0]) / width) + 1, 0), last)
        while level > 0 and value < edges[level - 1]:  # the quotient may be off by a rounding error
            level -= 1
        while level < last and value >= edges[level]:
            level += 1
        if level == 0:
            below += 1
        levels[n] = level
        counts[level] += 1
    return below


@kernel("void(int32[::1], int64[::1], int64[::1], int64[::1], int64, int32[:, :, ::1], int64[:, ::1], float64[:, ::1])")
def neighbours(grid, voxels, offsets, greys, alpha, pairs, dependence, tone):
    """Count pairs (GLCM), dependent neighbours (GLDM) and differences to the neighbourhood's mean (NGTDM) in one pass.

    `offsets` holds one of each two opposite directions; `greys` the grey level of each rank. Adds to `pairs`
    (direction, rank, rank), `dependence` (rank, number of dependent neighbours) and `tone` (rank; count, difference).
    """
    for position in voxels:
        rank = grid[position] - 1
        grey = greys[rank]
        number, total, dependent = 0, 0, 0
        for direction in range(len(offsets)):
            forward = grid[position + offsets[direction]]
            if forward > 0:
                pairs[direction, rank, forward - 1] += 1
                other = greys[forward - 1]
                number += 1
                total += other
                if abs(grey - other) <= alpha:
                    dependent += 1
            backward = grid[position - offsets[direction]]
            if backward > 0:
                other = greys[backward - 1]
                number += 1
                total += other
                if abs(grey - other) <= alpha:
                    dependent += 1
        dependence[rank, dependent] += 1
        tone[rank, 0] += 1.0
        if number > 0:
            tone[rank, 1] += abs(grey - total / number)


@kernel("void(int32[::1], int64[::1], int64[::1], int64[:, :, ::1])")
def runs(grid, voxels, offsets, lengths):
    """Count runs of equal grey level along each direction: adds to `lengths` (direction, rank, length - 1)."""
    for direction in range(len(offsets)):
        offset = offsets[direction]
        for position in voxels:
            rank = grid[position]
            if grid[position - offset] == rank:
                continue
            length, ahead = 0, position + offset
            while grid[ahead] == rank:
                length += 1
                ahead += offset
            lengths[direction, rank - 1, length] += 1


@kernel("int64(int32[::1], int64[::1], int64[::1], int64[::1], int64[::1])")
def zones(grid, voxels, offsets, ranks, sizes):
    """Flood fill zones of equal grey level; returns their number n, fills ranks[:n] and sizes[:n], empties `grid`."""
    stack = np.empty(len(voxels), np.int64)
    found = 0
    for start in voxels:
        rank = grid[start]
        if rank == 0:
            continue
        grid[start] = 0
        stack[0] = start
        height, size = 1, 0
        while height > 0:
            height -= 1
            position = stack[height]
            size += 1
            for offset in offsets:
                if grid[position + offset] == rank:
                    grid[position + offset] = 0
                    stack[height] = position + offset
                    height += 1
        ranks[found] = rank
        sizes[found] = size
        found += 1
    return found


@kernel("void(float64[:, ::1], int64[::1], int64, float64[::1])")
def cooccurrence(matrix, greys, highest, out):
    """GLCM features of one normalised matrix (rank, rank), in the order of `textures.COOCCURRENCE`."""
    n = len(greys)
    px, py = np.zeros(n), np.zeros(n)
    joint = np.zeros(2 * highest + 1)
    apart = np.zeros(highest)
    energy, entropy, highest_p, auto = 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        for j in range(n):
            p = matrix[i, j]
            if p == 0.0:
                continue
            px[i] += p
            py[j] += p
            joint[greys[i] + greys[j]] += p
            apart[abs(greys[i] - greys[j])] += p
            energy += p * p
            entropy -= p * np.log2(p + EPSILON)
            highest_p = max(highest_p, p)
            auto += p * greys[i] * greys[j]
    mean_x, mean_y, hx, hy = 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        mean_x += px[i] * greys[i]
        mean_y += py[i] * greys[i]
        hx -= px[i] * np.log2(px[i] + EPSILON)
        hy -= py[i] * np.log2(py[i] + EPSILON)
    var_x, var_y = 0.0, 0.0
    for i in range(n):
        var_x += px[i] * (greys[i] - mean_x) ** 2
        var_y += py[i] * (greys[i] - mean_y) ** 2
    covariance, hxy1, hxy2 = 0.0, 0.0, 0.0
    for i in range(n):
        for j in range(n):
            product = px[i] * py[j]
            if product == 0.0:
                continue
            log = np.log2(product + EPSILON)
            hxy2 -= product * log
            p = matrix[i, j]
            if p != 0.0:
                hxy1 -= p * log
                covariance += p * (greys[i] - mean_x) * (greys[j] - mean_y)
    tendency, shade, prominence, sum_average, sum_entropy = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(2, 2 * highest + 1):
        p = joint[k]
        d = k - mean_x - mean_y
        tendency += p * d * d
        shade += p * d * d * d
        prominence += p * d * d * d * d
        sum_average += p * k
        sum_entropy -= p * np.log2(p + EPSILON)
    contrast, average, difference_entropy = 0.0, 0.0, 0.0
    idm, idmn, inverse, idn, inverse_variance = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(highest):
        p = apart[k]
        contrast += p * k * k
        average += p * k
        difference_entropy -= p * np.log2(p + EPSILON)
        idm += p / (1.0 + k * k)
        idmn += p / (1.0 + (k * k) / (highest * highest))
        inverse += p / (1.0 + k)
        idn += p / (1.0 + k / highest)
        if k > 0:
            inverse_variance += p / (k * k)
    difference_variance = 0.0
    for k in range(highest):
        difference_variance += apart[k] * (k - average) ** 2
    spread = np.sqrt(var_x) * np.sqrt(var_y)
    divisor = max(hx, hy)
    out[0] = auto
    out[1] = prominence
    out[2] = shade
    out[3] = tendency
    out[4] = contrast
    out[5] = covariance / (spread + EPSILON) if spread != 0.0 else 1.0
    out[6] = average
    out[7] = difference_entropy
    out[8] = difference_variance
    out[9] = inverse
    out[10] = idm
    out[11] = idmn
    out[12] = idn
    out[13] = (entropy - hxy1) / divisor if divisor != 0.0 else 0.0
    if hxy2 == entropy:
        out[14] = 0.0
    else:
        out[14] = np.sqrt(1.0 - np.exp(-2.0 * (hxy2 - entropy)))  # NaN below 0, as PyRadiomics has it
    out[15] = inverse_variance
    out[16] = mean_x
    out[17] = energy
    out[18] = entropy
    out[19] = highest_p
    out[20] = sum_average
    out[21] = sum_entropy
    out[22] = var_x


@kernel("void(float64[:, ::1], int64[::1], int64[::1], float64[::1])")
def emphases(matrix, greys, sizes, out):
    """Features that GLRLM, GLSZM and GLDM share, of one matrix of counts (grey level, size); order of `textures.SIZES`.

    Source: PyRadiomics' definitions, which are those of IBSI (section 3.7 to 3.10) averaged over directions.
    """
    n, m = matrix.shape
    by_grey, by_size = np.zeros(n), np.zeros(m)
    total = 0.0
    for i in range(n):
        for j in range(m):
            by_grey[i] += matrix[i, j]
            by_size[j] += matrix[i, j]
        total += by_grey[i]
    entropy = 0.0
    small_low, small_high, large_low, large_high = 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        grey = float(greys[i]) * greys[i]
        for j in range(m):
            count = matrix[i, j]
            if count == 0.0:
                continue
            size = float(sizes[j]) * sizes[j]
            p = count / total
            entropy -= p * np.log2(p + EPSILON)
            small_low += count / (grey * size)
            small_high += count * grey / size
            large_low += count * size / grey
            large_high += count * size * grey
    low, high, grey_uniform, grey_mean = 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        grey = float(greys[i]) * greys[i]
        low += by_grey[i] / grey
        high += by_grey[i] * grey
        grey_uniform += by_grey[i] * by_grey[i]
        grey_mean += by_grey[i] / total * greys[i]
    small, large, size_uniform, size_mean, voxels = 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(m):
        size = float(sizes[j]) * sizes[j]
        small += by_size[j] / size
        large += by_size[j] * size
        size_uniform += by_size[j] * by_size[j]
        size_mean += by_size[j] / total * sizes[j]
        voxels += by_size[j] * sizes[j]
    grey_variance, size_variance = 0.0, 0.0
    for i in range(n):
        grey_variance += by_grey[i] / total * (greys[i] - grey_mean) ** 2
    for j in range(m):
        size_variance += by_size[j] / total * (sizes[j] - size_mean) ** 2
    out[0] = small / total
    out[1] = large / total
    out[2] = grey_uniform / total
    out[3] = grey_uniform / (total * total)
    out[4] = size_uniform / total
    out[5] = size_uniform / (total * total)
    out[6] = total / voxels
    out[7] = grey_variance
    out[8] = size_variance
    out[9] = entropy
    out[10] = low / total
    out[11] = high / total
    out[12] = small_low / total
    out[13] = small_high / total
    out[14] = large_low / total
    out[15] = large_high / total


@kernel("void(uint8[:, :, ::1], int64[::1], int64[:, ::1])")
def cubes(mask, counts, positions):
    """Count the 256 patterns of 2 x 2 x 2 voxels in a padded mask, and sum the indices (z, y, x) of their first voxel.

    Bits 0 to 7 are the corners (0,0,0), (0,0,1), (0,1,0), (0,1,1), (1,0,0), .. in raster order.
    """
    depth, height, width = mask.shape
    for z in range(depth - 1):
        for y in range(height - 1):
            left = mask[z, y, 0] | mask[z, y + 1, 0] << 2 | mask[z + 1, y, 0] << 4 | mask[z + 1, y + 1, 0] << 6
            for x in range(1, width):
                right = mask[z, y, x] | mask[z, y + 1, x] << 2 | mask[z + 1, y, x] << 4 | mask[z + 1, y + 1, x] << 6
                pattern = left | right << 1
                left = right
                if pattern != 0 and pattern != 255:
                    counts[pattern] += 1
                    positions[pattern, 0] += z
                    positions[pattern, 1] += y
                    positions[pattern, 2] += x - 1


@kernel("void(uint8[:, :, ::1], int32[:, ::1], int32[:, ::1], int32[:, ::1], int32[:, ::1])")
def outline(mask, low_x, high_x, low_y, high_y):
    """Extremes of the mesh's vertices, which lie halfway between a voxel of a padded mask and one outside.

    Indices are doubled, so that halves are whole. `low_x`, `high_x` (2 z, 2 y) hold the first and last 2 x of a line,
    `low_y`, `high_y` (2 z, 2 x) the first and last 2 y.
    """
    depth, height, width = mask.shape
    for z in range(depth - 1):
        for y in range(height - 1):
            for x in range(width - 1):
                here = mask[z, y, x]
                for axis in range(3):
                    if axis == 0:
                        other = mask[z + 1, y, x]
                    elif axis == 1:
                        other = mask[z, y + 1, x]
                    else:
                        other = mask[z, y, x + 1]
                    if here == other:
                        continue
                    zz, yy, xx = 2 * z + (axis == 0), 2 * y + (axis == 1), 2 * x + (axis == 2)
                    low_x[zz, yy] = min(low_x[zz, yy], xx)
                    high_x[zz, yy] = max(high_x[zz, yy], xx)
                    low_y[zz, xx] = min(low_y[zz, xx], yy)
                    high_y[zz, xx] = max(high_y[zz, xx], yy)


@kernel("int64(int32[:, ::1], int32[:, ::1], int64[:, ::1])")
def hull(low, high, points):
    """Convex hull of one plane by Andrew's monotone chain: corners go to `points` (line, position); returns how many.

    `low` and `high` (1, lines) are the first and last position on each line, low > high where a line is empty.
    """
    lines = low.shape[1]
    size = 0
    for line in range(lines):  # lower chain
        if low[0, line] > high[0, line]:
            continue
        b = low[0, line]
        while size >= 2 and (points[size - 1, 0] - points[size - 2, 0]) * (b - points[size - 2, 1]) <= (
            points[size - 1, 1] - points[size - 2, 1]
        ) * (line - points[size - 2, 0]):
            size -= 1
        points[size, 0], points[size, 1] = line, b
        size += 1
    start = size
    for step in range(lines):  # upper chain, back again
        line = lines - 1 - step
        if low[0, line] > high[0, line]:
            continue
        b = high[0, line]
        while size - start >= 2 and (points[size - 1, 0] - points[size - 2, 0]) * (b - points[size - 2, 1]) <= (
            points[size - 1, 1] - points[size - 2, 1]
        ) * (line - points[size - 2, 0]):
            size -= 1
        points[size, 0], points[size, 1] = line, b
        size += 1
    return size


@kernel("float64(float64[:, ::1])")
def widest(points):
    """Largest squared distance between two of `points` (n, 3) in mm."""
    best = 0.0
    for i in range(len(points)):
        for j in range(i):
            z = points[i, 0] - points[j, 0]
            y = points[i, 1] - points[j, 1]
            x = points[i, 2] - points[j, 2]
            distance = z * z + y * y + x * x
            best = max(best, distance)
    return best


@kernel("void(float64[:, ::1], float64[::1], float64[:, ::1], float64[:, ::1])")
def recursive(lines, weights, out, scratch):
    """Deriche's recursive filter of fourth order along axis 0 of `lines` (n >= 4, m); `out`, `scratch` as `lines`.

    `weights` holds N0..N3, M1..M4, D1..D4, BN1..BN4, BM1..BM4. The order of the operations is that of ITK's
    RecursiveSeparableImageFilter, so that values agree to the last bit. Source: Deriche, INRIA report 1893, 1993;
    Farneback and Westin, Improving Deriche-style recursive Gaussian filters, 2006.
    """
    n0, n1, n2, n3 = weights[0], weights[1], weights[2], weights[3]
    m1, m2, m3, m4 = weights[4], weights[5], weights[6], weights[7]
    d1, d2, d3, d4 = weights[8], weights[9], weights[10], weights[11]
    n, m = lines.shape
    for i in range(n):
        a, b, c = max(i - 1, 0), max(i - 2, 0), max(i - 3, 0)
        if i >= 4:
            for k in range(m):
                value = lines[i, k] * n0 + lines[a, k] * n1 + lines[b, k] * n2 + lines[c, k] * n3
                back = out[i - 1, k] * d1 + out[i - 2, k] * d2 + out[i - 3, k] * d3 + out[i - 4, k] * d4
                out[i, k] = value - back
        else:
            for k in range(m):
                edge = lines[0, k]
                value = lines[i, k] * n0 + lines[a, k] * n1 + lines[b, k] * n2 + lines[c, k] * n3
                back = out[i - 1, k] * d1 if i > 0 else edge * weights[12]
                back += out[i - 2, k] * d2 if i > 1 else edge * weights[13]
                back += out[i - 3, k] * d3 if i > 2 else edge * weights[14]
                back += edge * weights[15]
                out[i, k] = value - back
    last = n - 1
    for i in range(n - 1, -1, -1):
        a, b, c, d = min(i + 1, last), min(i + 2, last), min(i + 3, last), min(i + 4, last)
        if i < n - 4:
            for k in range(m):
                value = lines[a, k] * m1 + lines[b, k] * m2 + lines[c, k] * m3 + lines[d, k] * m4
                back = scratch[a, k] * d1 + scratch[b, k] * d2 + scratch[c, k] * d3 + scratch[d, k] * d4
                scratch[i, k] = value - back
        else:
            for k in range(m):
                edge = lines[last, k]
                value = lines[a, k] * m1 + lines[b, k] * m2 + lines[c, k] * m3 + lines[d, k] * m4
                back = scratch[i + 1, k] * d1 if i < last else edge * weights[16]
                back += scratch[i + 2, k] * d2 if i < last - 1 else edge * weights[17]
                back += scratch[i + 3, k] * d3 if i < last - 2 else edge * weights[18]
                back += edge * weights[19]
                scratch[i, k] = value - back
    for i in range(n):
        for k in range(m):
            out[i, k] += scratch[i, k]
