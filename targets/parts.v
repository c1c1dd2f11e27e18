// Parts of the machine whose size the resource model needs, one lane or one sum each.
// Inputs and outputs are registered outside; registers here are the pipeline's.

// N products of unsigned values and signed weights, summed: MATRIX in LUTs.
module dot #(parameter N = 16, A = 8, W = 8, S = A + W + $clog2(N)) (
    input clk, input [N*A-1:0] act, input [N*W-1:0] wgt, output reg signed [S-1:0] sum);
  integer i;
  reg signed [S-1:0] t;
  always @* begin
    t = 0;
    for (i = 0; i < N; i = i + 1)
      t = t + $signed({1'b0, act[i*A +: A]}) * $signed(wgt[i*W +: W]);
  end
  always @(posedge clk) sum <= t;
endmodule

// N bipolar products, summed: matches minus mismatches over lanes that are inside the map.
module dot_bipolar #(parameter N = 64, S = $clog2(N) + 2) (
    input clk, input [N-1:0] act, input [N-1:0] wgt, input [N-1:0] inside, input signed [S-1:0] lanes,
    output reg signed [S-1:0] sum);
  integer i;
  reg [S-2:0] t;
  always @* begin
    t = 0;
    for (i = 0; i < N; i = i + 1) t = t + (inside[i] & ~(act[i] ^ wgt[i]));
  end
  always @(posedge clk) sum <= $signed({t, 1'b0}) - lanes;
endmodule

// Four quarters of a step's sum, shifted and added into a sum of ACC: one output lane.
module accumulate #(parameter ACC = 32, Q = 18, H = 8) (
    input clk, input signed [Q-1:0] q0, q1, q2, q3, input lane_shift, input [1:0] shift, input fresh, forward,
    input [ACC-1:0] old, output reg [ACC-1:0] acc);
  reg signed [Q:0] b;
  reg signed [Q+H+1:0] a;
  reg signed [Q-1:0] q3d;
  reg signed [Q+2*H+1:0] t;
  reg signed [ACC-1:0] u;
  wire signed [Q+H:0] bs = lane_shift ? b <<< H : b;
  wire signed [Q+2*H-1:0] cs = lane_shift ? q3d <<< 2*H : q3d;
  reg signed [Q-1:0] q0d;
  reg signed [Q+2*H-1:0] c;
  wire [ACC-1:0] before = forward ? acc : old;
  always @(posedge clk) begin
    b <= q1 + q2;
    q0d <= q0;
    q3d <= q3;
    a <= q0d + bs;
    c <= cs;
    t <= a + c;
    u <= t <<< (shift * H);
    acc <= (before & {ACC{~fresh}}) + u;
  end
endmodule

// A running window: sum or maximum.
module window #(parameter ACC = 32) (
    input clk, input signed [ACC-1:0] value, input largest, first, output reg signed [ACC-1:0] acc);
  wire [ACC:0] s = {acc[ACC-1], acc} + ({value[ACC-1], value} ^ {(ACC+1){largest}}) + largest;
  always @(posedge clk) acc <= first | (largest & s[ACC]) ? value : largest ? acc : s[ACC-1:0];
endmodule

// A product of a value without its zero point and a depthwise weight.
module multiply #(parameter A = 9, W = 16) (
    input clk, input signed [A-1:0] a, input signed [W-1:0] w, output reg signed [A+W-1:0] p);
  always @(posedge clk) p <= a * w;
endmodule

// Behind the multiplier, whose DSPs add B: shifted with a sticky bit, rounded half to even, clamped; one lane.
module requantise #(parameter P = 58, O = 16) (
    input clk, input signed [P-1:0] p, input [5:0] s, input [O-1:0] lo, hi, output reg [O-1:0] y);
  reg signed [P+1:0] t, u, v;  // two bits more: half and rest
  reg ru, rv, half, rest, below, above;
  reg [5:0] s1;
  reg [3:0] s2;
  reg [1:0] s3;
  reg signed [P-1:0] r;
  reg [O:0] x;
  wire signed [P+1:0] w = v >>> s3;
  always @(posedge clk) begin
    t <= {p, 2'b0};
    s1 <= s;
    u <= t >>> {s1[5:4], 4'b0};
    ru <= |(t & ((64'd1 << {s1[5:4], 4'b0}) - 1));
    s2 <= s1[3:0];
    v <= u >>> {s2[3:2], 2'b0};
    rv <= ru | |(u & ((64'd1 << {s2[3:2], 2'b0}) - 1));
    s3 <= s2[1:0];
    r <= w[P+1:2];
    half <= w[1];
    rest <= w[0] | rv | |(v & ((64'd1 << s3) - 1));
    x <= {1'b0, r[O-1:0]} + (half & (rest | r[0]));
    below <= r[P-1];
    above <= ~r[P-1] & |r[P-1:O];
    y <= below | (x < lo) & ~above ? lo : above | x > hi ? hi : x[O-1:0];
  end
endmodule

// A table of 256 bytes in LUT RAM.
module table256 #(parameter O = 8) (
    input clk, input we, input [7:0] wa, input [O-1:0] wd, input [7:0] a, output reg [O-1:0] y);
  reg [O-1:0] m [0:255];
  always @(posedge clk) begin
    if (we) m[wa] <= wd;
    y <= m[a];
  end
endmodule

// A queue or buffer in LUT RAM.
module queue #(parameter W = 512, D = 16) (
    input clk, input we, input [$clog2(D)-1:0] wa, ra, input [W-1:0] d, output [W-1:0] q);
  reg [W-1:0] m [0:D-1];
  always @(posedge clk) if (we) m[wa] <= d;
  assign q = m[ra];
endmodule

// Six nested counters with the strides of K addresses.
module counters #(parameter K = 3, C = 11, A = 16) (
    input clk, input load, step, input [6*C-1:0] n, input [K*6*A-1:0] stride, input [K*A-1:0] base,
    output reg [K*A-1:0] address, output reg last);
  reg [C-1:0] count [0:5];
  reg [A-1:0] start [0:K*6-1];
  integer i, k;
  reg carry;
  reg [2:0] level;
  always @* begin
    level = 6;
    for (i = 5; i >= 0; i = i - 1) if (count[i] != n[i*C +: C]) level = i;
  end
  always @(posedge clk) begin
    last <= level == 6;
    if (load) begin
      for (i = 0; i < 6; i = i + 1) count[i] <= 1;
      for (i = 0; i < K*6; i = i + 1) start[i] <= base[(i/6)*A +: A];
      address <= base;
    end else if (step) begin
      for (i = 0; i < 6; i = i + 1) count[i] <= level == i ? count[i] + 1 : level > i ? 1 : count[i];
      for (k = 0; k < K; k = k + 1) begin : each
        reg [A-1:0] next;
        next = start[k*6 + level] + stride[(k*6 + level)*A +: A];
        address[k*A +: A] <= next;
        for (i = 0; i < 6; i = i + 1) if (i <= level) start[k*6 + i] <= next;
      end
    end
  end
endmodule

// The banks' read data for one reader: a bit of B banks.
module bank_mux #(parameter B = 12, W = 8) (
    input clk, input [B*W-1:0] d, input [$clog2(B)-1:0] s, output reg [W-1:0] q);
  always @(posedge clk) q <= d[s*W +: W];
endmodule
