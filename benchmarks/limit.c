/* About what one core can do: full-batch gradient descent of many tiny sigmoid nets, a block of LANES at a time.

   Every quantity of a block is a vector over its networks, and every size is a constant of the compilation (-D), so
   that the compiler unrolls the loops over units and turns each loop over lanes into SIMD instructions, exp included.
   Weights come as (weights, runs), all layers one after another, each (in, out); the curve goes out as
   (updates + 1, runs), half the sum of squared errors. */

#include <math.h>
#include <string.h>

#if LAYERS == 2
#define OUT UNITS1
#define WEIGHTS (INPUTS * UNITS0 + UNITS0 * UNITS1)
#else
#define OUT UNITS2
#define WEIGHTS (INPUTS * UNITS0 + UNITS0 * UNITS1 + UNITS1 * UNITS2)
#endif

typedef double vec[LANES] __attribute__((aligned(64)));
#define EACH_LANE for (int v = 0; v < LANES; v++)
#define INLINE static inline __attribute__((always_inline))

INLINE void squash(vec z) { EACH_LANE z[v] = 1 / (1 + exp(-z[v])); }

/* The first layer: its inputs are numbers that all networks share. */
INLINE void forward_shared(int in, int out, const double *x, vec *W, vec *h) {
  for (int j = 0; j < out; j++) {
    EACH_LANE {
      double z = 0;
      for (int i = 0; i < in; i++) z += x[i] * W[i * out + j][v];
      h[j][v] = z;
    }
    squash(h[j]);
  }
}

INLINE void forward(int in, int out, vec *below, vec *W, vec *h) {
  for (int j = 0; j < out; j++) {
    EACH_LANE {
      double z = 0;
      for (int i = 0; i < in; i++) z += below[i][v] * W[i * out + j][v];
      h[j][v] = z;
    }
    squash(h[j]);
  }
}

/* Adds a row's gradient to G and gives the delta of the layer below. */
INLINE void backward(int in, int out, vec *below, vec *W, vec *delta, vec *delta_below, vec *G) {
  for (int i = 0; i < in; i++) EACH_LANE {
      double sum = 0, h = below[i][v];
      for (int j = 0; j < out; j++) {
        sum += delta[j][v] * W[i * out + j][v];
        G[i * out + j][v] += h * delta[j][v];
      }
      delta_below[i][v] = sum * h * (1 - h);
    }
}

INLINE void gradient_shared(int in, int out, const double *x, vec *delta, vec *G) {
  for (int i = 0; i < in; i++)
    for (int j = 0; j < out; j++) EACH_LANE G[i * out + j][v] += x[i] * delta[j][v];
}

INLINE void error(int out, const double *y, vec *h, vec *delta, vec loss) {
  for (int j = 0; j < out; j++) EACH_LANE {
      double e = h[j][v] - y[j];
      loss[v] += e * e / 2;
      delta[j][v] = e * h[j][v] * (1 - h[j][v]);
    }
}

/* One pass over all rows: the loss, and the gradient of every weight. */
INLINE void pass(const double *X, const double *y, vec *W, vec *G, vec loss) {
  static vec h0[UNITS0], h1[UNITS1], d0[UNITS0], d1[UNITS1];
  vec *W1 = W + INPUTS * UNITS0, *G1 = G + INPUTS * UNITS0;
#if LAYERS == 3
  static vec h2[UNITS2], d2[UNITS2];
  vec *W2 = W1 + UNITS0 * UNITS1, *G2 = G1 + UNITS0 * UNITS1;
#endif
  memset(G, 0, WEIGHTS * sizeof(vec));
  memset(loss, 0, sizeof(vec));
  for (int n = 0; n < ROWS; n++) {
    const double *x = X + n * INPUTS, *target = y + n * OUT;
    forward_shared(INPUTS, UNITS0, x, W, h0);
    forward(UNITS0, UNITS1, h0, W1, h1);
#if LAYERS == 3
    forward(UNITS1, UNITS2, h1, W2, h2);
    error(OUT, target, h2, d2, loss);
    backward(UNITS1, UNITS2, h1, W2, d2, d1, G2);
#else
    error(OUT, target, h1, d1, loss);
#endif
    backward(UNITS0, UNITS1, h0, W1, d1, d0, G1);
    gradient_shared(INPUTS, UNITS0, x, d0, G);
  }
}

void train(long runs, long updates, const double *X, const double *y, const double *rates, const double *weights,
           double *curve) {
  static vec W[WEIGHTS], G[WEIGHTS], rate, loss;
  for (long first = 0; first < runs; first += LANES) {
    long count = runs - first < LANES ? runs - first : LANES;
    memset(W, 0, sizeof W); /* the lanes behind the last network train nets of zeros */
    memset(rate, 0, sizeof rate);
    for (long w = 0; w < WEIGHTS; w++) memcpy(W[w], weights + w * runs + first, count * sizeof(double));
    memcpy(rate, rates + first, count * sizeof(double));
    for (long update = 0; update <= updates; update++) {
      pass(X, y, W, G, loss);
      memcpy(curve + update * runs + first, loss, count * sizeof(double));
      for (int w = 0; w < WEIGHTS; w++) EACH_LANE W[w][v] -= rate[v] * G[w][v];
    }
  }
}
