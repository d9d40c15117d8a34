# Histories of demand, played on a pool.
BeforeAll {
    . "$PSScriptRoot/Shared.ps1"
    Import-Module $Module
    $script:Pool = New-TestPool
    $script:Trace = Join-Path $TestDrive 'trace.csv'
    Set-Content $Trace @('time,FINANCE,SPORTS'; 0..29 | ForEach-Object { "2026-03-02T08:$($_.ToString('00')):00Z,$($_ -lt 15 ? 5 : 25),$($_ -lt 15 ? 25 : 5)" })
}

Describe 'A simulation' {
    It 'tells what each service would have got under each rule' {
        $results = Invoke-VMatrixSimulation $Trace -Pool $Pool -Compare static, threshold
        $results | Should -BeOfType VMatrix.SimulatedService
        $results.Rule | Should -Be 'switching', 'switching', 'static', 'static', 'threshold', 'threshold'
        $results[0].Service | Should -Be 'FINANCE'
        $results[0].Minutes.Count | Should -Be 30
        $results[0].ServedShare | Should -BeGreaterThan 0.9
        $results | Format-Table | Out-String | Should -Match 'switching\s+FINANCE'
    }

    It 'gives the same again for the same seed' {
        $twice = 1..2 | ForEach-Object { Invoke-VMatrixSimulation $Trace -Pool $Pool -Seed 5 | ConvertTo-Json -Depth 5 }
        $twice[0] | Should -Be $twice[1]
    }

    It 'writes a page, and none with -WhatIf; the pool is left as it was' {
        $page = Join-Path $TestDrive 'page.html'
        $null = Invoke-VMatrixSimulation $Trace -Pool $Pool -Html $page -WhatIf
        $page | Should -Not -Exist
        $null = Invoke-VMatrixSimulation $Trace -Pool $Pool -Html $page
        $page | Should -Exist
        Get-VMatrixServer -Pool $Pool | Should -BeNullOrEmpty
        Get-ChildItem -Force (Split-Path $Pool) | Should -HaveCount 1
    }

    It 'names the line of a bad history' {
        $bad = Join-Path $TestDrive 'bad.csv'
        Set-Content $bad 'time,FINANCE,SPORTS', '2026-03-02T08:00Z,1,much'
        { Invoke-VMatrixSimulation $bad -Pool $Pool } | Should -Throw "*line 2: column 'SPORTS': 'much'*" -ErrorId 'TraceInvalid,VMatrix.Commands.InvokeVMatrixSimulationCommand'
    }
}
