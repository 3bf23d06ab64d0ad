'use strict';
// Counts how many points of a grid stay bounded, and prints the picture's checksum.
function escapesAfter(re, im, limit) {
  let x = 0, y = 0;
  for (let n = 0; n < limit; n++) {
    const xx = x * x, yy = y * y;
    if (xx + yy > 4) return n;
    y = 2 * x * y + im;
    x = xx - yy + re;
  }
  return limit;
}
function renderRow(y, size, limit) {
  let sum = 0;
  for (let x = 0; x < size; x++)
    sum += escapesAfter((x / size) * 3 - 2, (y / size) * 2.4 - 1.2, limit);
  return sum;
}
function render(size, limit) {
  let sum = 0;
  for (let y = 0; y < size; y++) sum = (sum * 31 + renderRow(y, size, limit)) % 1000000007;
  return sum;
}
console.log('checksum', render(900, 500), 'under ntrace:', process.env.NTRACE === 'true');
