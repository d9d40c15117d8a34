using System;
using System.Collections.Generic;
using System.Linq;

namespace VMatrix.Oracle.Demo;

/// <summary>How much one service is asked over a span of time.</summary>
/// <param name="Lasts">How long.</param>
/// <param name="Rates">Requests per second by service.</param>
internal sealed record LoadPhase(TimeSpan Lasts, IReadOnlyDictionary<string, double> Rates);

/// <summary>One request that will arrive, whatever became of those before it.</summary>
/// <param name="At">Time since the load's start.</param>
/// <param name="Service">The service it is for.</param>
internal readonly record struct Arrival(TimeSpan At, string Service);

/// <summary>Makes the requests of a load before it starts, so that two runs get the same ones.</summary>
internal static class Arrivals
{
    /// <summary>Poisson arrivals: exponential gaps at each phase's rate. The same seed gives the same requests.</summary>
    public static IReadOnlyList<Arrival> Make(IReadOnlyList<LoadPhase> phases, int seed)
    {
        string[] services = [.. phases.SelectMany(phase => phase.Rates.Keys).Distinct().Order(StringComparer.Ordinal)];
        var arrivals = new List<Arrival>();
        for (int index = 0; index < services.Length; index++)
        {
            // A stream of its own for each service: another rate for one leaves the other's requests as they are.
            var random = new Random(unchecked((seed * 397) ^ index));
            double begin = 0;
            foreach (LoadPhase phase in phases)
            {
                double end = begin + phase.Lasts.TotalSeconds;
                double rate = phase.Rates.GetValueOrDefault(services[index]);
                if (rate > 0)
                {
                    for (double at = begin + Gap(random, rate); at < end; at += Gap(random, rate))
                        arrivals.Add(new Arrival(TimeSpan.FromSeconds(at), services[index]));
                }

                begin = end;
            }
        }

        return [.. arrivals.OrderBy(arrival => arrival.At).ThenBy(arrival => arrival.Service, StringComparer.Ordinal)];
    }

    private static double Gap(Random random, double rate) => -Math.Log(1 - random.NextDouble()) / rate;
}
