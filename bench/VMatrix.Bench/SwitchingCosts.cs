using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Planning;

namespace VMatrix.Bench;

/// <summary>What decisions cost on a trace, and what the rules cost that the Oracle is measured against.</summary>
internal sealed class SwitchingCosts(TraceScenario scenario, IReadOnlyList<double[]> trace)
{
    private readonly TraceService[] _services = [.. scenario.Services];
    private double? _static;
    private double? _bound;

    /// <summary>The best fixed split in hindsight.</summary>
    public double Static => _static ??= Cost(Enumerable.Repeat(BestSplit(), trace.Count).ToArray());

    /// <summary>The cheapest schedule that knows the future and activates at once.</summary>
    public double Bound => _bound ??= FindBound();

    /// <summary>Share of the possible gain: 0 for the best fixed split, 1 for the bound.</summary>
    public double Closed(double cost) => (Static - cost) / (Static - Bound);

    /// <summary>Weighted unserved work, servers held and activations, at the scenario's prices. A server gained serves after the delay.</summary>
    public double Cost(IReadOnlyList<int[]> held)
    {
        double total = 0;
        for (int t = 0; t < trace.Count; t++)
        {
            if (held[t].Sum() > scenario.Hosts)
                throw new InvalidOperationException($"minute {t} holds more servers than there are hosts");
            for (int s = 0; s < _services.Length; s++)
            {
                int serving = held[t][s];
                for (int k = 1; k <= scenario.ActivationDelay && t - k >= 0; k++)
                    serving = Math.Min(serving, held[t - k][s]);
                int gained = t == 0 ? 0 : Math.Max(0, held[t][s] - held[t - 1][s]);
                total += Unserved(t, s, serving) + scenario.ServerCost * held[t][s] + scenario.ActivationCost * gained;
            }
        }

        return total;
    }

    /// <summary>An autoscaler's usual rule: 70 % use, down only to the highest need of five minutes, shares cut by weight when the pool is short.</summary>
    public int[][] Threshold()
    {
        int[][] held = new int[trace.Count][], need = new int[trace.Count][];
        for (int t = 0; t < held.Length; t++)
        {
            need[t] = [.. _services.Select((s, i) => t == 0 ? s.Min : Math.Max(s.Min, (int)Math.Ceiling(trace[t - 1][i] / (0.7 * s.Capacity))))];
            int[] want = [.. _services.Select((_, i) => Enumerable.Range(Math.Max(0, t - 4), Math.Min(5, t + 1)).Max(k => need[k][i]))];
            while (want.Sum() > scenario.Hosts)
            {
                int cut = Enumerable.Range(0, want.Length).Where(i => want[i] > _services[i].Min).OrderBy(i => _services[i].Weight).First();
                want[cut] = Math.Max(_services[cut].Min, want[cut] - (want.Sum() - scenario.Hosts));
            }

            held[t] = want;
        }

        return held;
    }

    private double Unserved(int t, int s, int serving) =>
        _services[s].Weight * Math.Max(0, trace[t][s] - serving * _services[s].Capacity) / _services[s].Capacity;

    private int[] BestSplit()
    {
        int[] split = [.. _services.Select(s => s.Min)];
        while (split.Sum() < scenario.Hosts)
        {
            (double gain, int best) = Enumerable.Range(0, split.Length).Select(s => (At(s, split[s]) - At(s, split[s] + 1), s)).Max();
            if (gain <= 0)
                break;
            split[best]++;
        }

        return split;

        double At(int s, int n)
        {
            double sum = scenario.ServerCost * n * trace.Count;
            for (int t = 0; t < trace.Count; t++)
                sum += Unserved(t, s, n);
            return sum;
        }
    }

    /// <summary>Dynamic programming over all splits: giving servers up is free and gaining is linear, so each minute is two sweeps.</summary>
    private double FindBound()
    {
        int services = _services.Length, base_ = scenario.Hosts + 1;
        int[] strides = new int[services];
        for (int s = services - 1, stride = 1; s >= 0; s--, stride *= base_)
            strides[s] = stride;
        int size = strides[0] * base_;
        int[] index = new int[size];
        List<int> inside = [];
        for (int x = 0; x < size; x++)
        {
            int sum = 0;
            bool enough = true;
            for (int s = 0; s < services; s++)
            {
                int n = x / strides[s] % base_;
                sum += n;
                enough &= n >= _services[s].Min;
            }

            index[x] = enough && sum <= scenario.Hosts ? inside.Count : -1;
            if (index[x] >= 0)
                inside.Add(x);
        }

        int[][] count = new int[services][], up = new int[services][], down = new int[services][];
        double[][] step = new double[services][];
        for (int s = 0; s < services; s++)
        {
            count[s] = [.. inside.Select(x => x / strides[s] % base_)];
            up[s] = [.. inside.Select(x => x / strides[s] % base_ < scenario.Hosts ? index[x + strides[s]] : -1)];
            down[s] = [.. inside.Select(x => x / strides[s] % base_ > 0 ? index[x - strides[s]] : -1)];
            step[s] = new double[base_];
        }

        double[] best = new double[inside.Count];
        for (int t = 0; t < trace.Count; t++)
        {
            for (int s = 0; s < services && t > 0; s++)
            {
                for (int i = best.Length - 1; i >= 0; i--)
                {
                    if (up[s][i] >= 0)
                        best[i] = Math.Min(best[i], best[up[s][i]]);
                }
            }

            for (int s = 0; s < services && t > 0; s++)
            {
                for (int i = 0; i < best.Length; i++)
                {
                    if (down[s][i] >= 0)
                        best[i] = Math.Min(best[i], best[down[s][i]] + scenario.ActivationCost);
                }
            }

            for (int s = 0; s < services; s++)
            {
                for (int n = 0; n < base_; n++)
                    step[s][n] = Unserved(t, s, n) + scenario.ServerCost * n;
            }

            for (int i = 0; i < best.Length; i++)
            {
                for (int s = 0; s < services; s++)
                    best[i] += step[s][count[s][i]];
            }
        }

        return best.Min();
    }
}
