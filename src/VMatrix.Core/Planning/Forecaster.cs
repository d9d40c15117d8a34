using System;
using System.Collections.Generic;
using System.IO;
using System.IO.Compression;
using System.Linq;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace VMatrix.Planning;

/// <summary>
/// Expects the demand of the coming minutes, with its spread. Demand is counted in servers: 2.5 is the work of two and a half.
/// <para>
/// Several experts each name a level: exponentially weighted means over 1, 2, 4 ... 32 minutes, and what came at this time a day
/// and a week ago. For each expert it is remembered how demand turned out as a ratio to the level it named, by the size of the
/// level: an empirical distribution of errors, so that nothing is assumed of their shape. The forecast is the mixture of the
/// experts' distributions, each weighted by how likely it made what came lately, in minutes like this one (exponentially weighted
/// forecasters: Vovk 1990; Cesa-Bianchi and Lugosi, Prediction, Learning, and Games, 2006; discounted scores as in Raftery,
/// Karny, Ettler 2010, dynamic model averaging).
/// </para>
/// </summary>
internal sealed class Forecaster
{
    private const int Bins = 49;
    private const int Sizes = 12;
    private const int Cases = 7;
    private const int Leads = 2;
    private const int ScoreWindow = 2;
    private const double MostGrowth = 1e6;

    // As many minutes of the past are kept as the forecast looks ahead.
    private const int MostAhead = 100_000;

    // Seconds of all the years that a date can have: no grain is shorter.
    private const long MostMinute = 10000L * 366 * 24 * 3600;
    private const byte Version = 1;

    // Bins of log ratios, narrow around 0 (where a steady service's errors are) and wide far out: sinh spacing, to a factor of 38.
    private static readonly double[] s_center = Enumerable.Range(0, Bins).Select(i => 0.2 * Math.Sinh(0.15 * (i - Bins / 2))).ToArray();
    private static readonly double[] s_width = Enumerable.Range(0, Bins).Select(i => Math.Cosh(0.15 * (i - Bins / 2))).ToArray();
    private static readonly double[] s_ratio = s_center.Select(Math.Exp).ToArray();

    private readonly ForecastSettings _settings;
    private readonly int _experts;
    private readonly int _day;
    private readonly int _far;
    private readonly double[] _prior;

    // Outcomes by lead, expert, size and bin, and their sums. New ones weigh more and more instead of old ones less and less.
    private readonly float[] _outcomes;
    private readonly float[] _allSizes;
    private readonly double[] _outcomeSums;
    private readonly double[] _allSums;
    private double _weight = 1;

    // Discounted log scores by lead, case (the last row: all cases) and expert.
    private readonly double[] _scores;

    private readonly double[] _means;
    private readonly float[] _week;
    private readonly List<Past> _past;

    public Forecaster(ForecastSettings settings, int far)
    {
        _settings = settings;
        _far = Math.Max(2, far);
        _day = (int)Math.Round(settings.Day);
        _experts = settings.Scales.Count + (_day > 0 ? 2 : 0);
        _outcomes = new float[Leads * _experts * Sizes * Bins];
        _allSizes = new float[Leads * _experts * Bins];
        _outcomeSums = new double[Leads * _experts * Sizes];
        _allSums = new double[Leads * _experts];
        _scores = new double[Leads * (Cases + 1) * _experts];
        _means = new double[settings.Scales.Count];
        _week = new float[7 * _day];
        for (int i = 0; i < _week.Length; i++)
            _week[i] = float.NaN;
        _past = [];
        _prior = new double[Bins];
        double sum = 0;
        for (int i = 0; i < Bins; i++)
            sum += _prior[i] = s_width[i] / (1 + Math.Pow(s_center[i] / settings.PriorSpread, 4));
        for (int i = 0; i < Bins; i++)
            _prior[i] /= sum;
    }

    private Forecaster(Forecaster other)
    {
        (_settings, _far, _day, _experts, _prior) = (other._settings, other._far, other._day, other._experts, other._prior);
        _outcomes = (float[])other._outcomes.Clone();
        _allSizes = (float[])other._allSizes.Clone();
        _outcomeSums = (double[])other._outcomeSums.Clone();
        _allSums = (double[])other._allSums.Clone();
        _scores = (double[])other._scores.Clone();
        _means = (double[])other._means.Clone();
        _week = (float[])other._week.Clone();
        _past = [.. other._past];
        (_weight, Minute, Seen) = (other._weight, other.Minute, other.Seen);
    }

    /// <summary>Number of the newest minute observed, from a time that the caller chose.</summary>
    public long Minute { get; private set; } = -1;

    /// <summary>Minutes observed.</summary>
    public long Seen { get; private set; }

    public Forecaster Copy() => new(this);

    /// <summary>True when it was learned with as many experts and the same season.</summary>
    public bool Fits(ForecastSettings settings) => settings.Scales.Count == _means.Length && (int)Math.Round(settings.Day) == _day;

    /// <summary>Takes in a minute's demand. Minutes that were left out stay unknown and nothing is learned from them.</summary>
    /// <param name="minute">Its number; above that of the minute before.</param>
    /// <param name="demand">Its demand, in servers.</param>
    public void Observe(long minute, double demand)
    {
        _weight *= 1 + 1 / _settings.ErrorMemory;
        if (_weight > MostGrowth)
            Shrink();
        foreach (var past in _past)
        {
            for (int lead = 0; lead < Leads; lead++)
            {
                if (past.Minute + Ahead(lead) == minute)
                    Learn(lead, past, demand);
            }
        }

        _past.RemoveAll(p => p.Minute + _far <= minute);
        long missed = Seen == 0 ? 0 : minute - Minute - 1;
        for (int i = 0; i < _means.Length; i++)
            _means[i] = Seen == 0 ? demand : Mean(i, demand);
        if (_day > 0)
        {
            for (long m = Math.Max(minute - missed, minute - _week.Length + 1); m < minute; m++)
                _week[(int)(m % _week.Length)] = float.NaN;
            _week[(int)(minute % _week.Length)] = (float)demand;
        }

        Minute = minute;
        Seen++;
        var levels = new double[Leads][];
        for (int lead = 0; lead < Leads; lead++)
            levels[lead] = Levels(_means, Minute + Ahead(lead));
        _past.Add(new Past(minute, levels, Case(_means)));
    }

    /// <summary>What a server's capacity is has changed: the same demand is the work of more or fewer servers.</summary>
    public void Rescale(double factor)
    {
        for (int i = 0; i < _means.Length; i++)
            _means[i] *= factor;
        for (int i = 0; i < _week.Length; i++)
            _week[i] *= (float)factor;
        _past.Clear();
    }

    /// <summary>
    /// For each n from 1: the share of the n-th server's capacity that is expected to be used, E[min(1, max(0, D - (n - 1)))], with
    /// D the demand of the next minute or of the first minute in which a server activated now would serve.
    /// </summary>
    /// <param name="far">False for the next minute.</param>
    /// <param name="latest">Demand of this moment where more is known than the last whole minute; null where not.</param>
    /// <param name="use">Filled with the shares; index 0 is not used.</param>
    public void Expect(bool far, double? latest, double[] use)
    {
        Array.Clear(use, 0, use.Length);
        if (Seen == 0 && latest is null)
            return;
        int lead = far ? 1 : 0;
        var means = _means;
        long minute = Minute;
        if (latest is double now)
        {
            means = new double[_means.Length];
            for (int i = 0; i < means.Length; i++)
                means[i] = Seen == 0 ? now : Mean(i, now);
            minute++;
        }

        var levels = Levels(means, minute + Ahead(lead));
        var weights = Weights(lead, Case(means));
        int most = use.Length - 1;
        var full = new double[most + 2];
        for (int e = 0; e < _experts; e++)
        {
            if (weights[e] < 1e-4)
                continue;
            var (size, next, part) = Size(levels[e]);
            int row = lead * _experts + e, a = (row * Sizes + size) * Bins, b = (row * Sizes + next) * Bins, all = row * Bins;
            double prior = _settings.Prior, allScale = prior / (_allSums[row] / _weight + prior);
            double scale = weights[e] / (((1 - part) * _outcomeSums[row * Sizes + size] + part * _outcomeSums[row * Sizes + next]) / _weight + prior);
            double ka = (1 - part) / _weight, kb = part / _weight;
            for (int i = 0; i < Bins; i++)
            {
                double p = scale * (ka * _outcomes[a + i] + kb * _outcomes[b + i] + allScale * (_allSizes[all + i] / _weight + prior * _prior[i]));
                double demand = (levels[e] + _settings.Offset) * s_ratio[i] - _settings.Offset;
                if (demand <= 0)
                    continue;
                if (demand >= most)
                {
                    full[most] += p;
                    continue;
                }

                int whole = (int)demand;
                full[whole] += p;
                use[whole + 1] += p * (demand - whole);
            }
        }

        double run = 0;
        for (int n = most; n >= 1; n--)
        {
            run += full[n];
            use[n] += run;
        }
    }

    /// <summary>The state as bytes.</summary>
    public byte[] Save()
    {
        using var stream = new MemoryStream();
        using (var deflate = new DeflateStream(stream, CompressionLevel.Fastest))
        {
            using var head = new MemoryStream();
            using (var writer = new BinaryWriter(head))
            {
                writer.Write(Version);
                writer.Write(_experts);
                writer.Write(_day);
                writer.Write(_far);
                writer.Write(Minute);
                writer.Write(Seen);
                writer.Write(_weight);
            }

            byte[] bytes = head.ToArray();
            deflate.Write(bytes, 0, bytes.Length);
            foreach (var array in Arrays())
            {
                bytes = new byte[Buffer.ByteLength(array)];
                Buffer.BlockCopy(array, 0, bytes, 0, bytes.Length);
                deflate.Write(bytes, 0, bytes.Length);
            }
        }

        return stream.ToArray();
    }

    /// <summary>A forecaster from saved bytes; null when they are of another version or other settings, and it begins anew.</summary>
    public static Forecaster? Load(ForecastSettings settings, byte[] saved)
    {
        try
        {
            // An array at a time, and never more than they hold: what was saved may have been written by anybody.
            using var deflate = new DeflateStream(new MemoryStream(saved), CompressionMode.Decompress);
            using var reader = new BinaryReader(deflate);
            if (reader.ReadByte() != Version)
                return null;
            int experts = reader.ReadInt32(), day = reader.ReadInt32(), far = reader.ReadInt32();
            if (far > MostAhead)
                return null;
            var forecaster = new Forecaster(settings, far);
            if (experts != forecaster._experts || day != forecaster._day)
                return null;
            forecaster.Minute = reader.ReadInt64();
            forecaster.Seen = reader.ReadInt64();
            forecaster._weight = reader.ReadDouble();
            if (forecaster.Minute is < -1 or > MostMinute || forecaster.Seen < 0 || !(forecaster._weight >= 1 && forecaster._weight <= 2 * MostGrowth))
                return null;
            foreach (var array in forecaster.Arrays())
            {
                byte[] bytes = reader.ReadBytes(Buffer.ByteLength(array));
                if (bytes.Length < Buffer.ByteLength(array))
                    return null;
                Buffer.BlockCopy(bytes, 0, array, 0, bytes.Length);
            }

            return deflate.ReadByte() < 0 ? forecaster : null;
        }
        catch (Exception e) when (e is EndOfStreamException or InvalidDataException)
        {
            return null;
        }
    }

    /// <summary>What was learned, in the order in which it is saved. All machines that this runs on store the lowest byte first.</summary>
    private Array[] Arrays() => [_outcomes, _allSizes, _week, _outcomeSums, _allSums, _scores, _means];

    private int Ahead(int lead) => lead == 0 ? 1 : _far;

    private double Mean(int scale, double demand) => _means[scale] + (demand - _means[scale]) / Math.Max(1, _settings.Scales[scale]);

    /// <summary>The level that each expert names for a minute.</summary>
    private double[] Levels(double[] means, long minute)
    {
        var levels = new double[_experts];
        means.CopyTo(levels, 0);
        if (_day > 0)
        {
            double without = means[means.Length / 2];
            levels[means.Length] = Ago(minute, _day) ?? without;
            levels[means.Length + 1] = Ago(minute, 7 * _day) ?? Ago(minute, _day) ?? without;
        }

        return levels;
    }

    private double? Ago(long minute, int back)
    {
        double sum = 0;
        int count = 0, blur = (int)Math.Round(_settings.SeasonBlur);
        for (long m = minute - back - blur; m <= minute - back + blur; m++)
        {
            if (m < 0 || m > Minute || m <= Minute - _week.Length)
                continue;
            float demand = _week[(int)(m % _week.Length)];
            if (float.IsNaN(demand))
                continue;
            sum += demand;
            count++;
        }

        return count == 0 ? null : sum / count;
    }

    /// <summary>How the newest minute compares with the last eight: from far below to far above.</summary>
    private (int Case, double Part) Case(double[] means)
    {
        double log = Math.Log((means[0] + _settings.Offset) / (means[Math.Min(3, means.Length - 1)] + _settings.Offset));
        double at = Math.Max(0, Math.Min(Cases - 1, log / _settings.CaseWidth + Cases / 2));
        int which = Math.Min((int)at, Cases - 2);
        return (which, at - which);
    }

    /// <summary>Sizes of level, three in two octaves from a quarter of a server; a level lies between two of them.</summary>
    private (int Size, int Next, double Part) Size(double level)
    {
        double at = Math.Max(0, Math.Min(Sizes - 1, 1.5 * (Math.Log(level + _settings.Offset) / Math.Log(2) + 2)));
        int size = (int)at;
        return (size, Math.Min(size + 1, Sizes - 1), at - size);
    }

    private double[] Weights(int lead, (int Case, double Part) which)
    {
        var weights = new double[_experts];
        int all = (lead * (Cases + 1) + Cases) * _experts, one = (lead * (Cases + 1) + which.Case) * _experts;
        double best = double.NegativeInfinity, sum = 0;
        for (int e = 0; e < _experts; e++)
        {
            weights[e] = _settings.Trust * (_settings.CommonShare * _scores[all + e] + (1 - _settings.CommonShare) * ((1 - which.Part) * _scores[one + e] + which.Part * _scores[one + _experts + e]));
            best = Math.Max(best, weights[e]);
        }

        for (int e = 0; e < _experts; e++)
            sum += weights[e] = Math.Exp(weights[e] - best);
        for (int e = 0; e < _experts; e++)
            weights[e] /= sum;
        return weights;
    }

    private void Learn(int lead, Past past, double demand)
    {
        double keep = 1 - 1 / Math.Max(1, _settings.ScoreMemory);
        for (int e = 0; e < _experts; e++)
        {
            double level = past.Levels[lead][e];
            double log = Math.Log((demand + _settings.Offset) / (level + _settings.Offset));
            log = Math.Max(s_center[0], Math.Min(s_center[Bins - 1], log));
            double at = Asinh(log / 0.2) / 0.15 + Bins / 2;
            int bin = Math.Max(0, Math.Min((int)at, Bins - 2));
            double part = at - bin;
            var (size, next, between) = Size(level);
            int row = lead * _experts + e;

            // The score is the likelihood of what came, in a window of bins: one bin's count alone is mostly chance.
            double mass = 0, width = 0;
            for (int i = Math.Max(0, bin - ScoreWindow); i <= Math.Min(Bins - 1, bin + 1 + ScoreWindow); i++)
            {
                mass += Share(row, size, next, between, i);
                width += s_width[i];
            }

            double score = Math.Log(mass / width + 1e-4);
            int common = (lead * (Cases + 1) + Cases) * _experts + e, one = (lead * (Cases + 1) + past.Case.Case) * _experts + e;
            _scores[common] = keep * _scores[common] + score;
            double second = past.Case.Part, first = 1 - second;
            _scores[one] += first * (score - (1 - keep) * _scores[one]);
            _scores[one + _experts] += second * (score - (1 - keep) * _scores[one + _experts]);

            Put(_outcomes, (row * Sizes + size) * Bins + bin, part, _weight * (1 - between));
            _outcomeSums[row * Sizes + size] += _weight * (1 - between);
            Put(_outcomes, (row * Sizes + next) * Bins + bin, part, _weight * between);
            _outcomeSums[row * Sizes + next] += _weight * between;
            Put(_allSizes, row * Bins + bin, part, _weight);
            _allSums[row] += _weight;
        }

        static void Put(float[] bins, int at, double part, double weight)
        {
            bins[at] += (float)(weight * (1 - part));
            bins[at + 1] += (float)(weight * part);
        }
    }

    private double Share(int row, int size, int next, double part, int bin)
    {
        double prior = _settings.Prior;
        double all = (_allSizes[row * Bins + bin] / _weight + prior * _prior[bin]) / (_allSums[row] / _weight + prior);
        double outcomes = (1 - part) * _outcomes[(row * Sizes + size) * Bins + bin] + part * _outcomes[(row * Sizes + next) * Bins + bin];
        double sum = (1 - part) * _outcomeSums[row * Sizes + size] + part * _outcomeSums[row * Sizes + next];
        return (outcomes / _weight + prior * all) / (sum / _weight + prior);
    }

    private void Shrink()
    {
        foreach (var array in new[] { _outcomes, _allSizes })
        {
            for (int i = 0; i < array.Length; i++)
                array[i] /= (float)_weight;
        }

        foreach (var array in new[] { _outcomeSums, _allSums })
        {
            for (int i = 0; i < array.Length; i++)
                array[i] /= _weight;
        }

        _weight = 1;
    }

    private static double Asinh(double x) => x >= 0 ? Math.Log(x + Math.Sqrt(x * x + 1)) : -Math.Log(-x + Math.Sqrt(x * x + 1));

    private sealed record Past(long Minute, double[][] Levels, (int Case, double Part) Case);
}

/// <summary>What the planner learned of a service's demand: opaque, kept as text where it is stored.</summary>
[JsonConverter(typeof(Converter))]
public sealed class ForecastState
{
    private readonly byte[]? _saved;
    private Forecaster? _forecaster;
    private string? _text;

    internal ForecastState(Forecaster forecaster) => _forecaster = forecaster;

    private ForecastState(byte[] saved) => _saved = saved;

    /// <summary>The forecast; null when it was learned under other settings, and is to begin anew.</summary>
    internal Forecaster? Open(ForecastSettings settings)
    {
        _forecaster ??= Forecaster.Load(settings, _saved!);
        return _forecaster is { } forecaster && forecaster.Fits(settings) ? forecaster : null;
    }

    private sealed class Converter : JsonConverter<ForecastState>
    {
        public override ForecastState Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => new(reader.GetBytesFromBase64());

        public override void Write(Utf8JsonWriter writer, ForecastState value, JsonSerializerOptions options) =>
            writer.WriteStringValue(value._text ??= Convert.ToBase64String(value._saved ?? value._forecaster!.Save()));
    }
}
