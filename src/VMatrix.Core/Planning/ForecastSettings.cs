using System.Collections.Generic;

namespace VMatrix.Planning;

/// <summary>The constants of the forecast, one set for every service. None of them is tuned to a load: the bench's <c>sensitivity</c> halves and doubles each.</summary>
public sealed record ForecastSettings
{
    /// <summary>Minutes that each expert averages over: the newest minute alone, then an octave more each, to half an hour.</summary>
    public IReadOnlyList<double> Scales { get; init; } = [1, 2, 4, 8, 16, 32];

    /// <summary>Demand of this many servers' work is added before ratios are taken: below it, differences are of no matter, and zero has a ratio.</summary>
    public double Offset { get; init; } = 0.3;

    /// <summary>Minutes of outcomes that an expert's errors are remembered for: about three days.</summary>
    public double ErrorMemory { get; init; } = 5000;

    /// <summary>Weight of what is believed before there are outcomes, and of all levels against one level, in outcomes.</summary>
    public double Prior { get; init; } = 20;

    /// <summary>Log ratio that errors are believed to keep within at first: half as much again.</summary>
    public double PriorSpread { get; init; } = 0.5;

    /// <summary>Minutes of scores that an expert's weight rests on.</summary>
    public double ScoreMemory { get; init; } = 50;

    /// <summary>How sharply weights follow scores: 1 would be Bayes' rule for independent minutes; minutes in a row are not independent.</summary>
    public double Trust { get; init; } = 0.3;

    /// <summary>Share of the weight that rests on all minutes, beside those alike in how the newest compares with the last eight.</summary>
    public double CommonShare { get; init; } = 0.5;

    /// <summary>Log ratio of the newest minute to the last eight that makes it another case.</summary>
    public double CaseWidth { get; init; } = 0.5;

    /// <summary>Minutes on either side that the experts of yesterday and of last week average over.</summary>
    public double SeasonBlur { get; init; } = 2;

    /// <summary>Minutes in a day, for the expert who expects what came a day ago; seven of them for the one who expects what came a week ago. 0 for neither.</summary>
    public double Day { get; init; } = 1440;
}
